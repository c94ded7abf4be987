/**
 * From nothing to two Postgres on two branches: builds the executable, makes an environment, starts the page server, a Postgres
 * on `main` with a table, a branch, and a Postgres on the branch; shows that they differ, and leaves it all running.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { findProgram } from "../src/process/find_program.ts";
import { formatHostPort } from "../src/common/host_port.ts";
import { parseBranchName } from "../src/common/id.ts";
import { PAGESERVER_DEFAULT_LISTEN } from "../src/common/page_server_config.ts";
import { withPassword } from "../src/compute/postgres/role_passwords.ts";
import { type ComputeInfo, findCompute } from "../src/control/computes.ts";
import { loadEnvironment } from "../src/control/environment.ts";
import { allocatePort, portsFrom } from "../src/control/ports.ts";
import { findNewestPostgres } from "../src/pg_install/find_postgres.ts";
import { isReachable, pgUser } from "../src/pg_install/pg_user.ts";

const ROOT = join(import.meta.dirname, "..");
const ZENITH = join(ROOT, "dist", "zenith");

function step(text: string): void {
  console.log(`\n# ${text}`);
}

/** Shows a command and runs it; what fails ends the quickstart with the command's own words. */
function run(file: string, args: readonly string[], env: NodeJS.ProcessEnv): void {
  console.log(`$ ${[file === ZENITH ? "zenith" : file, ...args].join(" ")}`);
  const child = spawnSync(file, args, { cwd: ROOT, stdio: "inherit", env });
  if (child.error !== undefined) throw child.error;
  if (child.status !== 0) process.exit(child.status ?? 1);
}

/** Run as root in root's home directory, the unprivileged user that Postgres runs as could not get here. */
function environmentDir(): string {
  const wanted = process.env["ZENITH_REPO_DIR"] ?? join(ROOT, ".zenith");
  const user = pgUser();
  if (isReachable(ROOT, user)) return wanted;
  const elsewhere = join(tmpdir(), "zenith-quickstart");
  console.log(
    `${ROOT} is closed to user ${user?.name}, whom Postgres runs as: the environment goes to ${elsewhere}`,
  );
  return process.env["ZENITH_REPO_DIR"] ?? elsewhere;
}

async function inPostgres(branch: string, sql: string): Promise<void> {
  const { address, paths } = computeOf(branch);
  const session = postgres({
    ...address,
    user: "zenith_admin",
    password: withPassword(paths).password!,
    database: "postgres",
    max: 1,
    onnotice: () => {},
  });
  try {
    console.log(`${branch}=# ${sql}`);
    for (const row of await session.unsafe<Record<string, unknown>[]>(sql)) {
      console.log(`  ${Object.entries(row).map(([name, value]) => `${name} = ${value}`).join(", ")}`);
    }
  } finally {
    await session.end({ timeout: 1 });
  }
}

function computeOf(branch: string): ComputeInfo {
  const environment = loadEnvironment(repoDir);
  return findCompute(environment, environment.config.default_tenant_id, parseBranchName(branch));
}

step("Build");
run("bun", [join("scripts", "build.ts")], process.env);

const repoDir = environmentDir();
const env = { ...process.env, ZENITH_REPO_DIR: repoDir };
if (existsSync(repoDir)) {
  console.error(`\n${repoDir} is there already. Go on with it:`);
  console.error(`  export ZENITH_REPO_DIR=${repoDir}; ${ZENITH} start`);
  console.error(`or stop it and remove it, for a quickstart from nothing:`);
  console.error(`  ZENITH_REPO_DIR=${repoDir} ${ZENITH} stop; rm -r ${repoDir}`);
  process.exit(1);
}

step(`Make an environment, with PostgreSQL ${findNewestPostgres().version}, unmodified`);
const [host, defaultPort] = PAGESERVER_DEFAULT_LISTEN.split(":");
const listen = formatHostPort({
  host: host!,
  port: await allocatePort(new Set(), portsFrom(Number(defaultPort))),
});
run(ZENITH, ["init", "--listen", listen], env);
run(ZENITH, ["start"], env);

step("A Postgres on the branch main, and a table");
run(ZENITH, ["pg", "create", "main"], env);
run(ZENITH, ["pg", "start", "main"], env);
await inPostgres("main", "CREATE TABLE greetings (n int, text text)");
await inPostgres("main", "INSERT INTO greetings SELECT n, 'hello ' || n FROM generate_series(1, 1000) n");

step("A branch, and a Postgres on it: a copy of nothing, at once");
run(ZENITH, ["branch", "experiment", "main"], env);
run(ZENITH, ["pg", "create", "experiment"], env);
run(ZENITH, ["pg", "start", "experiment"], env);
await inPostgres("experiment", "DELETE FROM greetings WHERE n > 10");
await inPostgres("experiment", "SELECT count(*) FROM greetings");
await inPostgres("main", "SELECT count(*) FROM greetings");
run(ZENITH, ["branch"], env);
run(ZENITH, ["pg", "list"], env);

const client = findProgram("psql") === undefined
  ? ", or any client to what uri prints instead of psql (psql is in the package postgresql-client)"
  : "";
console.log(`
Both are running. Connect${client}:
  export ZENITH_REPO_DIR=${repoDir}
  ${ZENITH} psql main
  ${ZENITH} psql experiment
Look around:
  ${ZENITH} --help
Stop all of it:
  ZENITH_REPO_DIR=${repoDir} ${ZENITH} stop`);
