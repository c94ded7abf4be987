import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { runZenith, zenithCommand } from "../harness/cli.ts";
import { clientProgram } from "../harness/postgres_major.ts";
import { ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;

before(async () => {
  env = await ZenithEnv.create();
  const main = await env.startCompute("main");
  await main.query("CREATE TABLE t (n int, big bigint, b bool, v text, j jsonb)");
  await main.query(
    `INSERT INTO t VALUES (1, 9007199254740993, true, 'a,"b"', '{"x": 1}'), (2, 5, false, NULL, NULL)`,
  );
});
after(() => env[Symbol.asyncDispose]());

async function names(): Promise<string[]> {
  const branches = JSON.parse(await env.zenith("branch", "list", "--json")) as { branch: string }[];
  return branches.map(({ branch }) => branch);
}

describe("zenith sql", () => {
  test("prints a table, CSV, or JSON with what JSON can say exactly", async () => {
    const all = "SELECT * FROM t ORDER BY n";
    assert.equal(
      await env.zenith("sql", "main", "-c", "SELECT n, v FROM t ORDER BY n"),
      'n  v\n1  a,"b"\n2\n(2 rows)\n',
    );
    assert.equal(
      await env.zenith("sql", "--csv", "-c", all),
      'n,big,b,v,j\n1,9007199254740993,t,"a,""b""","{""x"": 1}"\n2,5,f,,\n',
    );
    assert.deepEqual(JSON.parse(await env.zenith("sql", "--json", "-c", all)), [
      { n: 1, big: "9007199254740993", b: true, v: 'a,"b"', j: { x: 1 } },
      { n: 2, big: 5, b: false, v: null, j: null },
    ]);
    assert.deepEqual(JSON.parse(await env.zenith("sql", "--json", "-c", "SELECT 1 AS x WHERE false")), []);
  });

  test("runs a file, or standard input, with the rows of each statement", async () => {
    const file = join(env.paths.root, "statements.sql");
    writeFileSync(
      file,
      "CREATE TABLE made (n int);\nINSERT INTO made VALUES (1), (2);\nSELECT n FROM made;\n",
    );
    assert.equal(await env.zenith("sql", "main", "-f", file), "CREATE TABLE\nINSERT 2\nn\n1\n2\n(2 rows)\n");
    const [command, ...args] = [...zenithCommand(), "sql", "main", "-f", "-"];
    const piped = spawnSync(command, args, {
      input: "DROP TABLE made",
      env: { ...process.env, ZENITH_REPO_DIR: env.paths.root },
      encoding: "utf8",
    });
    assert.equal(piped.stdout, "DROP TABLE\n", piped.stderr);
  });

  test("prints every statement's rows or tag, in order", async () => {
    const statements = [
      "SELECT",
      "SELECT n FROM t WHERE false",
      "CREATE TEMP TABLE x (n int)",
      "INSERT INTO x SELECT generate_series(1, 3000)",
      "SELECT max(n) FROM x",
      "UPDATE x SET n = 0 WHERE n < 3 RETURNING n",
      "DELETE FROM x",
      "DROP TABLE x",
    ];
    const printed = await env.zenith("sql", "-c", statements.join("; "));
    assert.deepEqual(printed.split("\n"), [
      "SELECT 1",
      ...["n", "(0 rows)"],
      "CREATE TABLE",
      "INSERT 3000",
      ...["max", "3000", "(1 row)"],
      ...["n", "0", "0", "(2 rows)"],
      "DELETE 3000",
      "DROP TABLE",
      "",
    ]);
  });

  test("ends with code 1 and what Postgres says", async () => {
    const failed = await env.tryZenith("sql", "main", "-c", "SELECT 1; INSERT INTO nowhere VALUES (1)");
    assert.equal(failed.code, 1);
    assert.match(failed.stderr, /^ERROR: relation "nowhere" does not exist \(42P01\)$/m);
    assert.equal((await env.tryZenith("sql", "main")).code, 2);
    assert.equal((await env.tryZenith("sql", "main", "-c", "SELECT 1", "-d", "nowhere")).code, 1);
  });
});

test("a branch that is made the default is meant where none is named", async () => {
  assert.equal(await env.zenith("branch", "default"), "main\n");
  await env.branch("dev", "main");
  assert.equal(await env.zenith("branch", "default", "dev"), "branch dev is the default now\n");
  assert.equal((await env.tryZenith("branch", "default", "nowhere")).code, 4);
  assert.deepEqual(JSON.parse(await env.zenith("branch", "default", "--json")), { branch: "dev" });
  assert.match((await env.tryZenith("sql", "-c", "SELECT 1")).stderr, /branch dev has no Postgres/);
  assert.match((await env.tryZenith("uri")).stderr, /branch dev has no Postgres/);
  await env.zenith("branch", "rename", "dev", "work");
  assert.equal(await env.zenith("branch", "default"), "work\n");
  const deleted = await env.zenith("branch", "delete", "work");
  assert.equal(deleted, "branch work deleted\nit was the default branch: that is main again\n");
  assert.equal(await env.zenith("sql", "--csv", "-c", "SELECT 1 AS n"), "n\n1\n");
});

describe("zenith uri", () => {
  test("leads there, as a string and as variables", async () => {
    const uri = (await env.zenith("uri")).trim();
    const psql = (args: string[], variables: Record<string, string> = {}) =>
      spawnSync(clientProgram("psql"), ["-Atc", "SELECT count(*) FROM t", ...args], {
        env: { ...process.env, ...variables },
        encoding: "utf8",
      }).stdout;
    assert.equal(psql([uri]), "2\n");
    const lines = (await env.zenith("uri", "main", "--env")).trim().split("\n");
    const variables = Object.fromEntries(lines.map((line) => /^export (\w+)=(.*)$/.exec(line)!.slice(1)));
    assert.equal(variables["DATABASE_URL"], uri);
    assert.equal(psql([], variables), "2\n");
    assert.match(
      await env.zenith("uri", "-d", "my shop", "-U", "al@ce"),
      /\/\/al%40ce@127.0.0.1:\d+\/my%20shop$/m,
    );
  });
});

describe("zenith run", () => {
  const shell = (script: string) => ["--", "sh", "-c", script];

  test("gives a command a branch of its own, and takes it away", async () => {
    const script = `${
      clientProgram("psql")
    } -Atc "DELETE FROM t RETURNING n" && echo "$ZENITH_BRANCH $DATABASE_URL"`;
    const printed = await env.zenith("run", "main", ...shell(script));
    assert.match(
      printed,
      /^1\n2\nDELETE 2\nrun-[0-9a-f]{12} postgres:\/\/zenith_admin:[\w-]{32}@127\.0\.0\.1:\d+\/postgres\n$/,
    );
    assert.deepEqual(await names(), ["main"]);
    assert.equal(await env.zenith("pg", "list", "--json").then((text) => JSON.parse(text).length), 1);
    assert.equal(await env.zenith("sql", "--csv", "-c", "SELECT count(*) FROM t"), "count\n2\n");
  });

  test("ends with the command's code, and leaves the branch of one that failed when asked to", async () => {
    assert.equal((await env.tryZenith("run", "main", ...shell("exit 7"))).code, 7);
    assert.equal((await env.tryZenith("run", "main", ...shell("kill -TERM $$"))).code, 128 + 15);
    assert.equal((await env.tryZenith("run", "main", "--", "/no/such/program")).code, 4);
    assert.deepEqual(await names(), ["main"]);
    const failed = await env.tryZenith("run", "main", "--keep-on-failure", ...shell("exit 3"));
    assert.equal(failed.code, 3);
    const left = /branch (run-[0-9a-f]{12}) is left/.exec(failed.stderr)![1];
    assert.equal(await env.zenith("sql", left, "--csv", "-c", "SELECT count(*) FROM t"), "count\n2\n");
    await env.zenith("pg", "stop", left);
    await env.zenith("branch", "delete", left);
    assert.equal((await env.tryZenith("run", "main")).code, 2);
    assert.equal((await env.tryZenith("run", "nowhere", ...shell("true"))).code, 4);
  });
});

test("zenith up goes from nothing to a database, and does only what is missing", async () => {
  await using fresh = await ZenithEnv.create({ start: false });
  const root = join(fresh.dir, "fresh");
  const up = (...args: string[]) => runZenith(["up", ...args], { ZENITH_REPO_DIR: root });
  const zenith = (...args: string[]) => runZenith(args, { ZENITH_REPO_DIR: root });
  try {
    const first = await up();
    assert.equal(first.code, 0, first.stderr);
    assert.match(
      first.stdout,
      /^created [^]*^page server started[^]*^Postgres of branch main started$/m,
    );
    const connect = first.stdout.trim().split("\n").at(-1)!;
    const again = await up();
    assert.equal(again.code, 0, again.stderr);
    assert.match(
      again.stdout,
      /^everything runs already[^]*^Postgres of branch main runs already$/m,
    );
    assert.equal(again.stdout.trim().split("\n").at(-1), connect);
    assert.equal(connect, "connect with: zenith psql main");
    const json = JSON.parse((await up("--json")).stdout) as { branch: string };
    assert.equal(json.branch, "main");
    assert.equal((await zenith("sql", "--csv", "-c", "SELECT 1 AS x")).stdout, "x\n1\n");
  } finally {
    await zenith("stop");
  }
});

test("the environment is found from below, as git finds a repository", () => {
  const below = join(env.paths.root, "..", "below", "deeper");
  mkdirSync(below, { recursive: true });
  const [command, ...args] = [...zenithCommand(), "branch"];
  const { ZENITH_REPO_DIR: _, ...variables } = process.env;
  // The tests' environment is called "repo": one named as `init` does is a link to it.
  spawnSync("ln", ["-s", env.paths.root, join(env.paths.root, "..", ".zenith")]);
  const found = spawnSync(command, args, { cwd: below, env: variables, encoding: "utf8" });
  assert.equal(found.stdout, "main\n", found.stderr);
});
