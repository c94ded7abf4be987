/** The recipes of docs/tools.md, with the tools themselves, on one branch that lives through all of them. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import pg from "pg";
import postgres from "postgres";
import { POSTGRES_MAJORS } from "../../src/common/postgres_major.ts";
import { findPostgres, SYSTEM_ROOT } from "../../src/pg_install/find_postgres.ts";
import { asUser, makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import { findProgram } from "../../src/process/find_program.ts";
import { addSettings } from "../harness/branching.ts";
import { childOutput } from "../harness/child_output.ts";
import { freePort } from "../harness/ports.ts";
import { RestoredBackup } from "../harness/restored_backup.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

const CONTENT = "SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)), 0) FROM t";

const NEWEST = 18;
/** The major that the distribution's tools and extensions are for: 15 on Debian 12. */
const DEBIANS = POSTGRES_MAJORS.find((major) => existsSync(join(SYSTEM_ROOT, String(major)))) ?? NEWEST;

const EAGER = process.env["ZENITH_TEST_STORAGE"] === "eager";

const { binDir } = findPostgres(DEBIANS);
const lacks = (program: string) => findProgram(program) === undefined ? `there is no ${program} here` : false;
const lacksLibrary = (name: string) =>
  existsSync(join(binDir, "../lib", `${name}.so`)) ? false : `PostgreSQL ${DEBIANS} has no ${name} here`;
const skipBackRest = lacks("pgbackrest");
const skipBarman = lacks("barman");
const skipBouncer = lacks("pgbouncer");
const skipWal2json = lacksLibrary("wal2json");
const skipCron = lacksLibrary("pg_cron");

const EXAMPLES = join(import.meta.dirname, "..", "..", "examples");
const DRIZZLE_KIT = join(EXAMPLES, "node_modules", ".bin", "drizzle-kit");
const skipDrizzle = existsSync(DRIZZLE_KIT) ? false : '"npm run examples" fetches it';

/** Runs a program as the user that Postgres runs as. @throws {Error} with its output when it fails */
function run(main: Compute, cwd: string, file: string, ...args: readonly string[]): string {
  const { PGHOST, PGPASSWORD } = main.libpq;
  const env = { PATH: `${binDir}:/usr/bin:/bin:/usr/sbin`, HOME: cwd, PGHOST, PGPASSWORD };
  const done = spawnSync(file, args, { ...asUser(pgUser()), cwd, env, encoding: "utf8" });
  if (done.status === 0) return done.stdout;
  throw new Error(`${file} ${args.join(" ")} failed (${done.status}):\n${done.stdout}${done.stderr}`);
}

/** A directory of a tool's own, in which it may write. */
function directoryOf(env: ZenithEnv, tool: string, ...inside: readonly string[]): string {
  const directory = join(env.dir, tool);
  for (const path of [directory, ...inside.map((name) => join(directory, name))]) {
    mkdirSync(path, { recursive: true });
    makeOwnedDirectory(path, pgUser());
  }
  return directory;
}

/** The symbolic links below a directory. */
function linksIn(directory: string): string[] {
  const found = readdirSync(directory, { recursive: true, withFileTypes: true });
  return found.filter((entry) => entry.isSymbolicLink()).map(({ name }) => name);
}

async function write(main: Compute, n: number): Promise<void> {
  await main.query(`INSERT INTO t SELECT n, md5(n::text) FROM generate_series(${n}, ${n + 499}) n`);
}

/** How often a job has run, which writes a row each time. */
const RUNS = "SELECT count(*)::int FROM runs";

/** A project of Drizzle, with examples/drizzle's schema and migrations. */
class DrizzleProject {
  readonly #directory: string;

  constructor(env: ZenithEnv) {
    this.#directory = join(env.dir, "drizzle");
    cpSync(join(EXAMPLES, "drizzle"), this.#directory, { recursive: true });
    symlinkSync(join(EXAMPLES, "node_modules"), join(this.#directory, "node_modules"));
  }

  /** @throws {Error} with its output when it fails */
  async run(uri: string, ...args: readonly string[]): Promise<string> {
    const child = spawn(DRIZZLE_KIT, args, {
      cwd: this.#directory,
      env: { ...process.env, DATABASE_URL: uri },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const { code, stdout, stderr } = await childOutput(child);
    if (code !== 0) throw new Error(`drizzle-kit ${args.join(" ")} failed (${code}):\n${stdout}${stderr}`);
    return stdout;
  }

  addColumn(): void {
    const file = join(this.#directory, "schema.ts");
    writeFileSync(file, readFileSync(file, "utf8").replace("email:", "name: text(),\n  email:"));
  }

  /** What drizzle-kit reads from a database, as its schema. */
  async pull(uri: string, out: string): Promise<string> {
    await this.run(uri, "pull", "--dialect=postgresql", `--url=${uri}`, `--out=${out}`);
    const directory = join(this.#directory, out);
    const file = readdirSync(directory).find((name) => name === "schema.ts");
    return readFileSync(join(directory, file!), "utf8");
  }
}

/** A PgBouncer in front of a compute. */
class Bouncer implements AsyncDisposable {
  readonly port: number;
  readonly #child: ChildProcess;

  private constructor(port: number, child: ChildProcess) {
    this.port = port;
    this.#child = child;
  }

  static async start(env: ZenithEnv, main: Compute): Promise<Bouncer> {
    const directory = directoryOf(env, "pgbouncer");
    const port = await freePort();
    const file = join(directory, "pgbouncer.ini");
    const { host, port: to } = main.address;
    writeFileSync(
      file,
      `[databases]
postgres = host=${host} port=${to} user=zenith_admin password=${main.password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
admin_users = zenith_admin
`,
    );
    const child = spawn("pgbouncer", ["-q", file], { ...asUser(pgUser()), cwd: directory, stdio: "ignore" });
    const bouncer = new Bouncer(port, child);
    await until(
      "PgBouncer answers",
      async () => await bouncer.admin("SHOW VERSION").then(() => true, () => false),
    );
    return bouncer;
  }

  /** A command on its console. */
  async admin(command: string): Promise<void> {
    const client = new pg.Client({ ...this.#where, database: "pgbouncer" });
    await client.connect();
    try {
      await client.query(command);
    } finally {
      await client.end();
    }
  }

  pool(max: number): pg.Pool {
    return new pg.Pool({ ...this.#where, database: "postgres", max });
  }

  get #where() {
    return { host: "127.0.0.1", port: this.port, user: "zenith_admin" };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const gone = new Promise((resolve) => this.#child.on("exit", resolve));
    this.#child.kill("SIGTERM");
    await gone;
  }
}

for (const major of new Set([DEBIANS, NEWEST])) {
  describe(`tools with PostgreSQL ${major}`, () => {
    let env: ZenithEnv;
    let main: Compute;
    let backRest: readonly string[];
    /** Who has the job of pg_cron: main, a branch where it is switched off, and one that keeps it. */
    const cron: { readonly pg: Compute; readonly before: number }[] = [];

    before(async () => {
      env = await ZenithEnv.create({ major });
      main = await env.createCompute("main");
      addSettings(main, "wal_level = logical");
      if (major === DEBIANS) {
        const directory = directoryOf(env, "pgbackrest", "repository", "log", "lock");
        const file = join(directory, "pgbackrest.conf");
        backRest = [`--config=${file}`, "--stanza=main"];
        writeFileSync(
          file,
          `[global]
repo1-path=${directory}/repository
log-path=${directory}/log
lock-path=${directory}/lock
[main]
pg1-path=${main.paths.pgdata}
pg1-port=${main.address.port}
pg1-user=zenith_admin
`,
        );
        if (skipBackRest === false) {
          const push = ["pgbackrest", ...backRest, "archive-push", "%p"].join(" ");
          addSettings(main, "archive_mode = on", `archive_command = '${push}'`);
        }
        if (skipCron === false) {
          addSettings(main, "shared_preload_libraries = 'pg_cron'", "cron.use_background_workers = on");
        }
      }
      await main.start();
      await main.query("CREATE TABLE t (n int, v text)");
      await write(main, 1);
    });
    after(() => env?.[Symbol.asyncDispose]());

    const ofDebian = (skip: string | false) => ({
      skip: major === DEBIANS ? skip : `the distribution has it for PostgreSQL ${DEBIANS} alone`,
    });

    test(
      "pg_cron runs no job of its parent on a branch that starts for the first time",
      ofDebian(skipCron),
      async () => {
        await main.query("CREATE EXTENSION pg_cron; CREATE TABLE runs (at timestamptz)");
        await main.query("SELECT cron.schedule('* * * * *', 'INSERT INTO runs VALUES (now())')");
        await env.branch("dev", "main");
        const dev = await env.startCompute("dev");
        assert.equal(await dev.value("SELECT count(*)::int FROM cron.job"), 1);
        const launchers =
          "SELECT count(*)::int FROM pg_stat_activity WHERE application_name = 'pg_cron scheduler' " +
          "OR backend_type = 'pg_cron launcher'";
        assert.equal(await dev.value(launchers), 0);
        assert.equal(await main.value(launchers), 1);
        // Its functions and triggers are not there as long as it is not loaded.
        await dev.query("SET session_replication_role = replica; UPDATE cron.job SET active = false");
        await dev.restart();
        assert.equal(await dev.value(launchers), 1);
        assert.equal(await main.value("SELECT count(*)::int FROM cron.job"), 1);
        // The last test looks at what has run until then.
        await env.branch("asked", "main");
        const asked = await env.createCompute("asked");
        await env.zenith("pg", "start", "asked", "--keep-cron");
        for (const pg of [main, dev, asked]) cron.push({ pg, before: Number(await pg.value(RUNS)) });
      },
    );

    test("pgBackRest backs up the compute, and restores it to a moment", ofDebian(skipBackRest), async () => {
      const backup = (command: string, ...options: readonly string[]): string =>
        run(main, env.dir, "pgbackrest", ...backRest, "--log-level-console=warn", ...options, command);
      backup("stanza-create");
      backup("check");
      // Lazy computes have links to WAL that only slots need.
      await main.query("SELECT pg_create_physical_replication_slot('behind', true)");
      for (let i = 0; i < 2; i++) {
        await main.query("CREATE TABLE filler (); DROP TABLE filler; SELECT pg_switch_wal()");
      }
      await main.restart();
      if (!EAGER) assert.ok(linksIn(join(main.paths.pgdata, "pg_wal")).length >= 2);
      await write(main, 1000);
      backup("backup", "--type=full", "--start-fast");
      // A backup serves moments from the second after the one in which it ended.
      const ended = String(await main.value("SELECT date_trunc('second', clock_timestamp())::text"));
      const passed = `SELECT date_trunc('second', clock_timestamp()) > '${ended}'`;
      await until("that second has passed", async () => await main.value(passed) === true);
      await write(main, 2000);
      const expected = await main.value(CONTENT);
      const moment = String(await main.value("SELECT clock_timestamp()::text"));
      await main.query("DELETE FROM t WHERE n >= 2000");
      await main.query("SELECT pg_switch_wal()");
      await main.restart();
      await using restored = new RestoredBackup(major, main.password);
      mkdirSync(restored.dataDir);
      makeOwnedDirectory(restored.dataDir, pgUser());
      const to = [`--pg1-path=${restored.dataDir}`, "--type=time", `--target=${moment}`];
      backup("restore", ...to, "--target-action=promote");
      assert.deepEqual(linksIn(restored.dataDir), []);
      await main.query("SELECT pg_drop_replication_slot('behind')");
      restored.start("archive_mode = off", "shared_preload_libraries = ''");
      await until("it is promoted", async () => await restored.value("SELECT pg_is_in_recovery()") === false);
      assert.equal(await restored.value(CONTENT), expected);
      await main.query("DELETE FROM t WHERE n >= 1000");
    });

    test("barman backs up the compute, and recovers it", ofDebian(skipBarman), async () => {
      const directory = directoryOf(env, "barman", "home", "log");
      writeFileSync(
        join(directory, "barman.conf"),
        `[barman]
barman_user = ${pgUser()?.name ?? process.env["USER"]}
barman_home = ${directory}/home
log_file = ${directory}/log/barman.log
[main]
description = main
conninfo = ${main.conninfo}
streaming_conninfo = ${main.conninfo}
backup_method = postgres
streaming_archiver = on
slot_name = barman
create_slot = auto
path_prefix = ${binDir}
`,
      );
      const barman = (...args: readonly string[]): string =>
        run(main, directory, "barman", "-c", join(directory, "barman.conf"), ...args);
      barman("receive-wal", "--create-slot", "main");
      const receiver = spawn("barman", ["-c", join(directory, "barman.conf"), "receive-wal", "main"], {
        ...asUser(pgUser()),
        cwd: directory,
        env: { PATH: `${binDir}:/usr/bin:/bin`, HOME: directory },
        stdio: "ignore",
      });
      const gone = new Promise((resolve) => receiver.on("exit", resolve));
      try {
        await until("barman receives WAL", async () => {
          return await main.value(
            "SELECT count(*)::int FROM pg_stat_replication WHERE application_name = 'barman_receive_wal'",
          ) === 1;
        });
        barman("switch-wal", "--force", "--archive", "main");
        barman("backup", "--immediate-checkpoint", "--wait", "main");
        await write(main, 3000);
        barman("switch-wal", "--force", "--archive", "main");
        const expected = await main.value(CONTENT);
        await using restored = new RestoredBackup(major, main.password);
        barman("recover", "main", "latest", restored.dataDir);
        restored.start("archive_mode = off", "shared_preload_libraries = ''");
        await until(
          "it is promoted",
          async () => await restored.value("SELECT pg_is_in_recovery()") === false,
        );
        assert.equal(await restored.value(CONTENT), expected);
      } finally {
        receiver.kill("SIGTERM");
        await gone;
      }
      await main.query("SELECT pg_drop_replication_slot('barman')");
      await main.query("DELETE FROM t WHERE n >= 1000");
    });

    test("PgBouncer in transaction mode lets clients wait while the compute stops and starts", {
      skip: skipBouncer,
    }, async () => {
      await using bouncer = await Bouncer.start(env, main);
      const pool = bouncer.pool(20);
      try {
        const insert = (n: number) => pool.query("INSERT INTO t VALUES ($1, 'pooled')", [n]);
        await Promise.all(Array.from({ length: 20 }, (_, n) => insert(4000 + n)));
        await bouncer.admin("PAUSE postgres");
        const waiting = Array.from({ length: 20 }, (_, n) => insert(4100 + n));
        await main.restart();
        await bouncer.admin("RESUME postgres");
        await Promise.all(waiting);
        const { rows } = await pool.query("SELECT count(*)::int AS n FROM t WHERE v = 'pooled'");
        assert.deepEqual(rows, [{ n: 40 }]);
      } finally {
        await pool.end();
      }
    });

    test("node-postgres connects again after the compute was killed", async () => {
      const pool = new pg.Pool({ connectionString: (await env.zenith("uri", "main")).trim() });
      const lost: Error[] = [];
      pool.on("error", (error) => lost.push(error));
      try {
        const named = (n: number) => ({ name: "one", text: "SELECT v FROM t WHERE n = $1", values: [n] });
        const before = await pool.query(named(7));
        const listener = await pool.connect();
        await listener.query("LISTEN news");
        const heard = new Promise((resolve) =>
          listener.on("notification", ({ payload }) => resolve(payload))
        );
        await pool.query("NOTIFY news, 'hello'");
        assert.equal(await heard, "hello");
        listener.release();
        await main.kill9();
        await until("the pool knows", () => lost.length > 0);
        await main.start();
        assert.deepEqual((await pool.query(named(7))).rows, before.rows);
      } finally {
        await pool.end();
      }
    });

    test("postgres.js subscribes, and again after a stop and a start", async () => {
      await main.query("CREATE PUBLICATION alltables FOR ALL TABLES");
      const uri = (await env.zenith("uri", "main")).trim();
      for (const n of [5001, 5002]) {
        const sql = postgres(uri, { max: 1, onnotice: () => {} });
        try {
          const heard: unknown[] = [];
          await sql.subscribe("insert:public.t", (row) => heard.push(row?.["n"]));
          await main.query(`INSERT INTO t VALUES (${n}, 'heard')`);
          await until("it is heard", () => heard.length > 0);
          assert.deepEqual(heard, [n]);
        } finally {
          await sql.end({ timeout: 1 });
        }
        await main.restart();
      }
      await main.query("DROP PUBLICATION alltables");
    });

    test("drizzle-kit migrates, pushes and pulls, across a kill, a stop and a branch", {
      skip: skipDrizzle,
    }, async () => {
      const project = new DrizzleProject(env);
      const uri = async (branch: string) => (await env.zenith("uri", branch)).trim();
      await project.run(await uri("main"), "migrate");
      await main.kill9();
      await main.start();
      await project.run(await uri("main"), "migrate");
      assert.equal(await main.value("SELECT count(*)::int FROM drizzle.__drizzle_migrations"), 2);
      await main.query("INSERT INTO customers VALUES (1, 'a@example.com')");
      await env.branch("drizzle", "main");
      const branch = await env.startCompute("drizzle");
      project.addColumn();
      await project.run(await uri("drizzle"), "push", "--force");
      await branch.restart();
      assert.deepEqual(await branch.query("SELECT * FROM customers"), [
        { id: 1, email: "a@example.com", name: null },
      ]);
      const [there, here] = [await uri("drizzle"), await uri("main")];
      assert.match(await project.pull(there, "of-branch"), /customers.*name: text\(\)/s);
      assert.doesNotMatch(await project.pull(here, "of-main"), /name: text\(\)/);
      await branch.stop();
    });

    test("wal2json goes on where it was after a kill", ofDebian(skipWal2json), async () => {
      // Newer minor releases ask for the superuser's leave.
      const [plugins] = await main.query(
        "SELECT setting FROM pg_settings WHERE name = 'output_plugin_libraries'",
      );
      if (plugins !== undefined) {
        await main.query(`ALTER SYSTEM SET output_plugin_libraries = ${plugins["setting"]}, wal2json`);
        await main.query("SELECT pg_reload_conf()");
      }
      const file = env.paths.pageserver.timelineSlots(main.tenant, await timelineId());
      const stored = () => existsSync(file) ? readFileSync(file, "utf8") : "";
      const before = stored();
      await main.query("SELECT pg_create_logical_replication_slot('changes', 'wal2json')");
      await until("the slot is stored with the branch", () => stored() !== before);
      await main.query("INSERT INTO t VALUES (6001, 'before')");
      await main.kill9();
      await main.start();
      await main.query("INSERT INTO t VALUES (6002, 'after')");
      const rows = await main.query(
        "SELECT data FROM pg_logical_slot_get_changes('changes', NULL, NULL, 'add-tables', 'public.t')",
      );
      const values = rows.flatMap(({ data }) =>
        JSON.parse(String(data)).change.map(({ columnvalues }: { columnvalues: unknown[] }) =>
          columnvalues[0]
        )
      );
      assert.deepEqual(values, [6001, 6002]);
      await main.query("SELECT pg_drop_replication_slot('changes')");
    });

    test(
      "pg_cron runs its job on main, and of its branches on the one that keeps it",
      ofDebian(skipCron),
      async () => {
        const [ofMain, ofDev, ofAsked] = cron;
        for (const { pg, before } of [ofMain!, ofAsked!]) {
          // A job begins with the minute.
          await until("its job has run", async () => Number(await pg.value(RUNS)) > before, 90_000);
          assert.equal(
            await pg.value("SELECT count(*)::int FROM cron.job_run_details WHERE status = 'failed'"),
            0,
          );
        }
        assert.equal(await ofDev!.pg.value(RUNS), ofDev!.before);
        await Promise.all([ofDev!.pg.stop(), ofAsked!.pg.stop()]);
      },
    );

    async function timelineId() {
      await using client = env.pageserver.client();
      return (await client.branchList(main.tenant)).find(({ name }) => name === "main")!.timeline_id;
    }
  });
}
