/**
 * The examples of every command's help, typed one after the other in one environment: each does what it is there for. Names, LSNs,
 * moments and paths are put in the place of the help's; what can't be typed here is in a list with the test that does it.
 */
import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { spawn } from "node:child_process";
import { after, test } from "node:test";
import { loadCommands } from "../../src/commands/cli/command.ts";
import { COMMANDS } from "../../src/commands/registry.ts";
import { type ChildOutput, childOutput } from "../harness/child_output.ts";
import { zenithCommand } from "../harness/cli.ts";
import { clientProgram } from "../harness/postgres_major.ts";

/** Examples that are not typed here, by the first words of theirs, and where what they say is tested. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  "up --pg-version": "majors",
  "init --pg-version": "majors",
  "init --safekeepers": "quorum",
  "init --remote-pageserver": "quorum",
  "init --object-store": "object_store",
  "init --from": "object_store",
  "object-store set": "object_store",
  "object-store list": "object_store",
  "object-store rotate-key": "object_store",
  "start --watch": "bring_back",
  "serve": "serve",
  "logs pageserver -f": "cli_tools",
  "logs safekeeper 2": "cli_tools",
  "pg start main --replica": "replicas",
  "pg start dev --first-start-sql": "first_start",
  "pg standby main --slot": "standby",
  "standby drop": "standby",
  "psql main@": "moments",
  "branch mask": "masking",
  "tenant create --icu-locale": "cluster_options",
  "follow ": "follow",
  "import ": "import",
  "tenant attach": "object_store",
  "tenant recover": "object_store",
  "tenant move": "page_servers",
  "remote ": "object_store",
  "push ": "object_store",
  "tenant detach": "object_store",
  "token create ops --scope admin --certificate": "security_tls",
  "token revoke": "security",
  "token rotate --retire": "security",
  "pageserver -D": "bad_input",
  "safekeeper -D": "safekeeper",
  "safekeeper prune 4312": "safekeeper_prune",
  "safekeeper release": "quorum",
  "safekeeper repair-term": "repair_term",
  "fsck .zenith/": "fsck",
  "dump wal": "unit/commands/dump",
  "dump layer": "fsck",
};

const dir = mkdtempSync(join(tmpdir(), "zenith-help-"));
const typed = new Set<string>();
/** What stands in the examples, and what it is this time. */
const places: [string | RegExp, string][] = [];

function run(line: string): Promise<ChildOutput> {
  const path = [join(dir, "bin"), dirname(clientProgram("psql")), process.env["PATH"]].join(delimiter);
  const env = { PATH: path, HOME: dir, PGPASSWORD: "secret" };
  return childOutput(spawn("sh", ["-c", line], { cwd: dir, env, stdio: ["ignore", "pipe", "pipe"] }));
}

/** Types examples as they stand in the help, with what they stand for. @returns what the last one printed */
async function type(...examples: string[]): Promise<string> {
  let printed = "";
  for (const example of examples) {
    typed.add(example);
    const line = places.reduce((text, [word, now]) => text.replaceAll(word, now), example);
    const { code, stdout, stderr } = await run(`zenith ${line}`);
    assert.equal(code, 0, `zenith ${line}: ${stderr}`);
    printed = stdout;
  }
  return printed;
}

async function sql(branch: string, statements: string): Promise<string> {
  const { code, stdout, stderr } = await run(`zenith sql ${branch} --csv -c "${statements}"`);
  assert.equal(code, 0, stderr);
  return stdout.trim().split("\n").at(-1)!;
}

function prepare(): void {
  chmodSync(dir, 0o755);
  mkdirSync(join(dir, "bin"));
  const [file, ...args] = zenithCommand();
  writeFileSync(join(dir, "bin", "zenith"), `#!/bin/sh\nexec "${file}" ${args.join(" ")} "$@"\n`);
  chmodSync(join(dir, "bin", "zenith"), 0o755);
  writeFileSync(
    join(dir, "migrate.sh"),
    "#!/bin/sh\nzenith sql $ZENITH_BRANCH -c 'ALTER TABLE t ADD a int'\n",
  );
  chmodSync(join(dir, "migrate.sh"), 0o755);
  writeFileSync(join(dir, "package.json"), JSON.stringify({ scripts: { test: "true" } }));
  writeFileSync(join(dir, "schema.sql"), "CREATE TABLE of_schema (i int);\n");
}

after(async () => {
  try {
    await run("zenith stop -m immediate");
  } finally {
    rmSync(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }
});

test("the examples for servers, branches and moments do what they say", async () => {
  prepare();
  // The clients of other majors may be missing.
  places.push([/^init$/g, "init --pg-version 15"]);
  await type("init", "start", "up", "up");
  await sql("main", "CREATE TABLE t AS SELECT generate_series(1, 100) AS i");
  await sql("main", "CREATE TABLE orders (id int PRIMARY KEY)");
  await sql("main", "CREATE DATABASE shop");
  await sql("main", "CREATE ROLE alice LOGIN PASSWORD 'secret'");
  const lsn = await sql("main", "SELECT pg_current_wal_insert_lsn()");
  const now = new Date(await sql("main", "SELECT to_json(clock_timestamp())#>>'{}'"));
  // To the second: that is before some of it, and after the history's beginning.
  const clock = [now.getHours(), now.getMinutes(), now.getSeconds()].join(":").replace(/\b\d\b/g, "0$&");
  const filenode = await sql("main", "SELECT pg_relation_filepath('t')");
  places.push(
    ["0/223C288", lsn],
    [/yesterday 14:00/g, `today ${clock}`],
    ["2026-11-22 10:15:00", now.toISOString()],
    ["2026-11-22T09:15:00Z", now.toISOString()],
    [/@-(5m|10m|1h)/g, `@${now.toISOString()}`],
    ["5m ago", "1s ago"],
    ["base/13005/16384", filenode],
    ["/srv/postgres/main", join(dir, "exported")],
    ["/tmp/before", join(dir, "before")],
    ["/srv/standby", join(dir, "standby")],
    [/--to -$/g, `--to - > ${join(dir, "export.tar")}`],
  );
  await sql("main", "INSERT INTO orders VALUES (1)");

  await type("status", "status --json", "logs", "logs main", "safekeeper list", "doctor");
  await type("branch dev main", "branch", "branch list", "branch get dev", "branch history dev");
  await type("branch before main@0/223C288", "branch oops main@-5m", 'branch before2 "main@yesterday 14:00"');
  await type(
    'branch before3 "main@2026-11-22 10:15:00"',
    "branch tmp main --expires 2h",
    "branch try main --psql",
  );
  await type('lsn-at main "2026-11-22 10:15:00"', "lsn-at main 2026-11-22T09:15:00Z", 'lsn-at main "5m ago"');
  await type("lsn-at main now", "branch default dev", "branch default");
  await run("zenith branch default main");
  await type(
    "pg create dev --port 6000",
    "pg start main",
    "pg list",
    "pg config main",
    "pg config main work_mem=64MB",
  );
  await type("pg config main work_mem --unset", "branch diff main dev", "branch diff main@-1h main");
  await type("branch diff main dev --schema --db shop", "branch diff main@-1h main --rows orders");
});

test("the examples for clients, dumps and the past do what they say", async () => {
  await run("zenith pg start dev");
  await type(
    "uri",
    "uri dev --db shop --role alice",
    "uri dev --env",
    "psql",
    "psql main -- -d shop -U alice",
  );
  await type('sql main -c "select count(*) from t"', "sql dev -f schema.sql");
  assert.equal(JSON.parse(await type('sql main --json -c "select * from t"')).length, 100);
  await run("zenith pg start before");
  assert.match(await type('psql before -- -c "select count(*) from t"'), /100/);
  await type("run main -- npm test", "run main --keep-on-failure -- ./migrate.sh");
  assert.match(await type("run main@-1h -- psql -c 'select count(*) from t'"), /100/);
  await type(
    "dump main -f main.sql",
    "dump main@-1h -t orders -f orders.sql",
    "dump dev --db shop -f shop.dump -- -Fc",
  );
  await type("export main --to /srv/postgres/main", "export main@-5m --to /tmp/before", "export main --to -");
  await type("pg start main --lsn 0/223C288", "pg stop main@0/223C288", "pg start main@-5m");
  await type("pg standby main -D /srv/standby", "standby list");
});

test("the examples for what changes a branch do what they say", async () => {
  await type(
    "branch protect main",
    "branch unprotect main",
    "branch set-expiry dev 2h",
    "branch set-expiry dev never",
  );
  await type(
    "branch reset dev",
    "branch reset dev --keep-as dev-old",
    "branch restore dev main@0/223C288 --discard",
  );
  await type("dump page main base/13005/16384 0", "dump page main base/13005/16384 0 --lsn 0/223C288");
  await type("pg stop dev --destroy", "branch rename dev staging", "branch create dev", "branch delete dev");
  await type("branch create --name dev --parent main@-5m");
  await run("zenith pg start dev");
  await type("branch delete dev --stop");
  await run("zenith branch dev main");
  await type("pg create dev -c work_mem=64MB -c wal_level=logical", "branch delete dev --cascade");
  await run(`for name in $(zenith pg list | grep -o 'main@[^ ]*'); do zenith pg stop "$name"; done`);
  await type("branch restore main main@-10m", "pg stop main", "pg start main --prewarm");
});

test("the examples for tenants, tokens and servers do what they say", async () => {
  await run("zenith branch prod main");
  await type("branch require-mask prod", "branch require-mask prod --off");
  await run("zenith branch delete prod");
  await type("tenant list", "tenant list --long");
  const tenant = (await type("tenant create")).trim();
  places.push(["d70d3869a8c586d3eaf7029fe261620c", tenant]);
  await type(
    "tenant config d70d3869a8c586d3eaf7029fe261620c",
    "tenant config d70d3869a8c586d3eaf7029fe261620c --pitr-interval 7d",
    "tenant limits d70d3869a8c586d3eaf7029fe261620c",
    "tenant limits d70d3869a8c586d3eaf7029fe261620c --branches 20 --bytes 50000000000",
    "tenant limits d70d3869a8c586d3eaf7029fe261620c --branches default",
    "tenant delete d70d3869a8c586d3eaf7029fe261620c",
    "tenant create --pg-version 15",
  );
  await type("token create ci --scope tenant --expires 30d", "token create ann --scope tenant --masked");
  await type("token create archive --scope read --branch main --out main.token");
  await type("token create sk4 --scope safekeeper --address 10.0.0.4:5454", "token list", "token rotate");
  await type("completion bash", "completion zsh", "completion fish", "safekeeper prune", "restart", "stop");
  await type("fsck .zenith", "start");
  await run("zenith pg stop main --destroy");
  await type("pg create main", "stop -m immediate");
});

test("every example of the help is typed, or is one that another test has", async () => {
  const groups = await loadCommands(COMMANDS);
  const examples = groups.flatMap(({ commands }) => commands).flatMap((command) => command.examples ?? []);
  const elsewhere = Object.entries(ELSEWHERE);
  const left = examples.map(([line]) => line)
    .filter((line) => !typed.has(line) && !elsewhere.some(([begin]) => line.startsWith(begin)));
  assert.deepEqual(left, []);
  const unknown = elsewhere.filter(([begin]) => !examples.some(([line]) => line.startsWith(begin)));
  assert.deepEqual(unknown, [], "the help has no such example any more");
  const files = readdirSync(import.meta.dirname);
  for (const [begin, name] of elsewhere) {
    assert.ok(
      name.startsWith("unit/") || files.includes(`${name}.test.ts`),
      `${begin}: there is no test ${name}`,
    );
  }
});
