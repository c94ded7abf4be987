import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { parseBranchName } from "../../src/common/id.ts";
import { checkPidFile, isRunning } from "../../src/process/pid_file.ts";
import { findMount } from "../../src/compute/lazy/fuse/mount.ts";
import { postmasterPid } from "../../src/compute/postgres/postgres_process.ts";
import { pgUser } from "../../src/pg_install/pg_user.ts";
import { type CliResult, runZenith, zenithCommand } from "../harness/cli.ts";
import { freePort } from "../harness/ports.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let main: Compute;

before(async () => {
  env = await ZenithEnv.create({ safekeepers: 1 });
  main = await env.startCompute("main");
  await main.query("CREATE TABLE t AS SELECT 42 AS n");
});
after(() => env[Symbol.asyncDispose]());

/** Every refusal says what happened, and in a second line what to do. */
function assertSays(refused: CliResult, code: number, what: RegExp, hint: RegExp): void {
  assert.match(refused.stderr, what);
  assert.match(/^hint: (.*)$/m.exec(refused.stderr)?.[1] ?? refused.stderr, hint);
  assert.equal(refused.code, code, refused.stderr);
  assert.doesNotMatch(refused.stderr, /^ +at /m, "a stack is for bugs");
}

describe("a mistake", () => {
  test("in a name or an id is told, with where the right ones are", async () => {
    const zenith = (...args: string[]) => env.tryZenith(...args);
    const nobody = "0".repeat(32);
    assertSays(await zenith("branch", "dev", "nix"), 4, /has no branch nix/, /zenith branch/);
    assertSays(await zenith("pg", "create", "nix"), 4, /has no branch nix/, /zenith branch nix <start>/);
    assertSays(await zenith("pg", "start", "nix"), 4, /has no branch nix/, /"zenith branch" shows/);
    assertSays(
      await zenith("branch", "--tenantid", nobody),
      4,
      /there is no tenant 0{32}/,
      /zenith tenant list/,
    );
    for (
      const command of [["psql", "nix"], ["uri", "nix"], ["sql", "nix", "-c", "select 1"], [
        "pg",
        "stop",
        "nix",
      ]]
    ) {
      assertSays(await zenith(...command), 4, /has no branch nix/, /"zenith branch" shows/);
    }
    assertSays(
      await zenith("branch", "dev", "main@2001-01-01"),
      2,
      /2001-01-01T.* is before the history of timeline/,
      /a later moment/,
    );
    assertSays(await zenith("branch", "create"), 2, /what is the branch to be called/, /branch create dev/);
    assertSays(
      await zenith("branch", "dev", "main", "--expires", "0s"),
      2,
      /expire after "0s"/,
      /such as 2h/,
    );
    assertSays(await zenith("statsu"), 2, /no command "statsu"/, /zenith status/);
    assertSays(
      await zenith("branch", "dev", "main@someday"),
      2,
      /"someday" is neither an LSN nor a point in time/,
      /0\/16B5A50, -5m, yesterday 14:00/,
    );
    assertSays(
      await zenith("psql", "main", "-c", "select 1"),
      2,
      /Unknown option/,
      /after "--" comes <psql's arguments>/,
    );
  });

  test("of starting twice changes nothing", async () => {
    assert.match(await env.zenith("start"), /^everything runs already; the page server answers on 127/);
    assertSays(
      await env.tryZenith("pg", "start", "main", "--port", "1"),
      5,
      /Postgres of branch main has port \d+/,
      /leave out --port/,
    );
    assertSays(await env.tryZenith("init"), 5, /already exists and is not empty/, /ZENITH_REPO_DIR/);
    assert.equal(await main.value("SELECT n FROM t"), 42);
  });

  test("of starting a Postgres when the page server is down is told by its name", async () => {
    await main.stop();
    await env.pageserver.kill9();
    assertSays(
      await env.tryZenith("pg", "start", "main"),
      3,
      /the page server at .* is not running/,
      /zenith start/,
    );
    assertSays(await env.tryZenith("branch"), 3, /page server at .* is not running/, /zenith start/);
    // What the killed one has left behind, its pid file, is in nobody's way.
    await env.zenith("start");
    await main.start();
  });

  test("of taking a port that somebody else has is told with the setting to change", async () => {
    const port = await freePort();
    const other = createServer().listen(port, "127.0.0.1");
    try {
      await env.branch("busy", "main");
      await env.zenith("pg", "create", "busy", "--port", String(port));
      const refused = await env.tryZenith("pg", "start", "busy");
      assertSays(
        refused,
        5,
        new RegExp(`127.0.0.1:${port} is in use by process ${process.pid} \\(`),
        /port in .*compute\.conf/,
      );
    } finally {
      other.close();
    }
  });

  test("with a variable that leads nowhere is told by the variable's name", async () => {
    const nowhere = join(env.dir, "nowhere");
    const variables = { ZENITH_REPO_DIR: join(env.dir, "another"), POSTGRES_DISTRIB_DIR: nowhere };
    assertSays(
      await runZenith(["init"], variables),
      2,
      /POSTGRES_DISTRIB_DIR, .*does not exist/,
      /leave it out/,
    );
    assert.ok(!existsSync(variables.ZENITH_REPO_DIR));
    const lost = await runZenith(["status"], { ZENITH_REPO_DIR: nowhere });
    assertSays(lost, 4, /no Zenith environment in .*nowhere/, /zenith init/);
    const file = join(env.dir, "file");
    writeFileSync(file, "");
    const inFile = await runZenith(["init"], { ZENITH_REPO_DIR: join(file, "env") });
    assertSays(inFile, 1, /could not make the environment in .*file\/env/, /ZENITH_REPO_DIR/);
  });

  test("of losing the config or the data does not end in an environment that begins anew by itself", async () => {
    const { config } = env.paths;
    renameSync(config, `${config}.lost`);
    assertSays(await env.tryZenith("stop"), 4, /config is missing/, /put it back/);
    renameSync(`${config}.lost`, config);
    const { tenants } = env.paths.pageserver;
    renameSync(tenants, `${tenants}.lost`);
    const status = await env.tryZenith("status");
    assert.equal(status.code, 3);
    assert.match(status.stdout, /problem: .*tenants does not exist.*\nhint: if it was moved, move it back/);
    assertSays(await env.tryZenith("restart"), 4, /tenants does not exist/, /move it back/);
    await env.pageserver.kill9();
    assertSays(await env.tryZenith("start"), 4, /tenants does not exist/, /move it back/);
    assert.ok(!existsSync(tenants));
    renameSync(`${tenants}.lost`, tenants);
    await env.zenith("start");
    await main.restart();
    assert.equal(await main.value("SELECT n FROM t"), 42);
  });

  test("of removing a Postgres's data directory is told, with how to have it again from the branch", async () => {
    await env.branch("bare", "main");
    const bare = await env.startCompute("bare");
    // While it runs its files are mounted there, and stay.
    await bare.stop();
    rmSync(env.paths.compute(env.defaultTenant, parseBranchName("bare")).pgdata, { recursive: true });
    const status = await env.tryZenith("status");
    assert.match(status.stdout, /problem: .*postgresql.conf, the configuration of a Postgres, is missing/);
    assertSays(await env.tryZenith("pg", "create", "bare"), 5, /has a Postgres already/, /zenith pg start/);
    assertSays(
      await env.tryZenith("pg", "start", "bare"),
      2,
      /postgresql.conf.*missing/,
      /pg stop bare .*--destroy/,
    );
    // It is nobody else's mistake.
    await env.branch("unharmed", "main");
    await env.zenith("pg", "create", "unharmed");
    await env.zenith("pg", "stop", "unharmed", "--destroy");
    await env.zenith("pg", "stop", "bare", "--destroy");
    await env.zenith("pg", "create", "bare", "--port", String(bare.address.port));
    await env.zenith("pg", "start", "bare");
    assert.equal(await bare.value("SELECT n FROM t"), 42);
    await bare.stop();
  });

  test("of removing an environment that runs ends all that ran in it", async () => {
    await using other = await ZenithEnv.create({ safekeepers: 1 });
    await other.startCompute("main");
    const { pageserver } = other.paths;
    const compute = other.paths.compute(other.defaultTenant, parseBranchName("main"));
    const roles = [pageserver, ...other.safekeepers.map(({ paths }) => paths), compute]
      .map(({ pidFile }) => checkPidFile(pidFile));
    const postgres = postmasterPid(compute.pgdata);
    // The mount of a lazy compute is busy: the rest goes.
    spawnSync("rm", ["-rf", other.repoDir]);
    await until(
      "all has ended",
      () =>
        roles.every((role) => role.state === "running" && !isRunning(role.process)) &&
        !existsSync(`/proc/${postgres}`),
    );
    assert.equal(findMount(compute.mount), undefined);
  });

  if (process.getuid?.() === 0) {
    test("of running as root without an unprivileged user is told before anything is made", async () => {
      const variables = { ZENITH_REPO_DIR: join(env.dir, "rootly"), ZENITH_PG_USER: "elephant" };
      assertSays(await runZenith(["init"], variables), 4, /user elephant does not exist/, /ZENITH_PG_USER/);
      assert.ok(!existsSync(variables.ZENITH_REPO_DIR));
    });

    test("of choosing a directory that is not ours to write is told by its name", () => {
      const foreign = join(env.dir, "foreign");
      mkdirSync(foreign, { mode: 0o755 });
      const refused = as(pgUser()!, join(foreign, ".zenith"), "init");
      // Where the program itself is closed to that user there is nothing to see.
      if (refused.code === null) return;
      assertSays(refused, 1, /could not make the environment in .*foreign/, /ZENITH_REPO_DIR/);
    });

    test("of using what another user runs is told as that", async () => {
      const nobody = { uid: 65534, gid: 65534 };
      const root = env.paths.root;
      if (as(nobody, root, "version").code === null) return;
      const commands = [
        ["pg", "stop", "main"],
        ["stop"],
        ["start"],
        ["status"],
        ["pg", "list"],
        ["uri", "main"],
        ["sql", "-c", "select 1"],
        ["pg", "start", "main"],
        ["branch", "theirs", "main"],
        ["token", "list"],
      ];
      for (const command of commands) {
        assertSays(as(nobody, root, ...command), 1, / is an environment of root$/m, /^be root to use it/);
      }
      assert.equal(await main.value("SELECT n FROM t"), 42);
    });

    test("of choosing a disk that is too small is told, and leaves nothing behind", async () => {
      const small = join(env.dir, "small");
      mkdirSync(small);
      mount("-t", "tmpfs", "-o", "size=4m,mode=755", "tmpfs", small);
      try {
        const root = join(small, "env");
        const refused = await runZenith(["init"], { ZENITH_REPO_DIR: root });
        assert.notEqual(refused.code, 0);
        assertSays(refused, 1, /no space left|No space left/, /free some space/);
        assert.ok(!existsSync(root));
      } finally {
        spawnSync("umount", ["-l", small]);
      }
    });
  }
});

function as(user: { uid: number; gid: number }, root: string, ...args: string[]): CliResult {
  const [file, ...prefix] = zenithCommand();
  const run = spawnSync(file!, [...prefix, ...args], {
    encoding: "utf8",
    ...user,
    cwd: "/",
    env: { ...process.env, ZENITH_REPO_DIR: root, HOME: env.dir },
  });
  return { code: run.status, stdout: run.stdout, stderr: run.stderr };
}

function mount(...args: string[]): void {
  const done = spawnSync("mount", args, { encoding: "utf8" });
  assert.equal(done.status, 0, done.stderr);
}
