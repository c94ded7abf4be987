/** What is remembered of a start: that it failed, and that what it started is to run. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { isAnswering } from "../../src/control/ports.ts";
import { checkPidFile, runningProcess } from "../../src/process/pid_file.ts";
import { sleep } from "../../src/common/sleep.ts";
import { addSettings } from "../harness/branching.ts";
import { zenithCommand } from "../harness/cli.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let main: Compute;

before(async () => {
  env = await ZenithEnv.create({ safekeepers: 1 });
  main = await env.createCompute("main");
  addSettings(main, "max_prepared_transactions = 5");
  await main.start();
  await main.query("CREATE TABLE t AS SELECT 42 AS n");
});
after(() => env[Symbol.asyncDispose]());

function stateOf(compute: Compute): string {
  return checkPidFile(compute.paths.pidFile).state;
}

function startWatch(): ChildProcess {
  const [file, ...args] = zenithCommand();
  return spawn(file!, [...args, "start", "--watch"], {
    env: { ...process.env, ZENITH_REPO_DIR: env.repoDir },
    stdio: "ignore",
  });
}

async function untilServersAreBack(): Promise<void> {
  await until(
    "the servers are back",
    () =>
      checkPidFile(env.paths.pageserver.pidFile).state === "running" &&
      checkPidFile(env.safekeepers[0].paths.pidFile).state === "running",
  );
}

describe("a start that failed", () => {
  test("is remembered with Postgres's own words, until one succeeds or it is stopped", async () => {
    await main.query("BEGIN; INSERT INTO t VALUES (43); PREPARE TRANSACTION 'open'");
    addSettings(main, "max_prepared_transactions = 0");
    await main.stop();
    const failed = await env.tryZenith("pg", "start", "main");
    assert.match(failed.stderr, /maximum number of prepared transactions reached/);
    assert.match(failed.stderr, /hint: Increase "?max_prepared_transactions"? \(currently 0\)/);
    const remembered = /last start failed: .*maximum number of prepared transactions reached/;
    assert.match(
      await env.zenith("pg", "list"),
      /^main .* stopped \(last start failed: .*prepared transactions reached; Increase "?max_prepared/m,
    );
    const status = await env.tryZenith("status");
    assert.equal(status.code, 3);
    assert.match(status.stdout, remembered);
    assert.match(status.stdout, /hint: Increase "?max_prepared_transactions"? \(currently 0\)/);
    await env.zenith("pg", "stop", "main");
    assert.doesNotMatch((await env.tryZenith("status")).stdout, remembered);
    await env.tryZenith("pg", "start", "main");
    addSettings(main, "max_prepared_transactions = 5");
    await main.start();
    assert.doesNotMatch((await env.tryZenith("status")).stdout, remembered);
    assert.match(await env.zenith("pg", "list"), /^main .* running$/m);
    await main.query("COMMIT PREPARED 'open'");
    assert.equal(await main.value("SELECT sum(n)::int FROM t"), 85);
  });
});

describe("every Postgres that ran", () => {
  test("comes back with zenith start, after zenith stop and after a crash, but none that was stopped", async () => {
    await env.branch("dev", "main");
    const dev = await env.startCompute("dev");
    await env.branch("idle", "main");
    const idle = await env.startCompute("idle");
    await idle.stop();
    await env.zenith("stop");
    const started = await env.zenith("start");
    assert.match(started, /^Postgres of branch dev started on 127/m);
    assert.match(started, /^Postgres of branch main started on 127/m);
    assert.equal(await main.value("SELECT sum(n)::int FROM t"), 85);
    assert.equal(stateOf(idle), "absent");
    await dev.kill9();
    assert.match(await env.zenith("start"), /^Postgres of branch dev started/m);
    assert.equal(await dev.value("SELECT sum(n)::int FROM t"), 85);
    await dev.stop();
    await env.zenith("pg", "stop", "dev", "--destroy");
  });

  test("comes back once, when one start finds that another has begun", async () => {
    const { pidFile } = env.paths.pageserver;
    for (let caught = false; !caught;) {
      await env.pageserver.kill9();
      const first = env.zenith("start");
      // From its pid file on until it listens.
      await until("the page server has claimed its directory", () => runningProcess(pidFile) !== undefined);
      const { pid } = runningProcess(pidFile)!;
      process.kill(pid, "SIGSTOP");
      caught = !await isAnswering(env.pageserver.address);
      const second = env.tryZenith("start");
      // One that does not wait has ended by then.
      await Promise.race([second, sleep(1_000)]);
      process.kill(pid, "SIGCONT");
      assert.match(await first, /^page server started on/m);
      const { code, stdout, stderr } = await second;
      assert.equal(code, 0, stderr);
      assert.doesNotMatch(stdout, /page server started/);
    }
    assert.equal(await main.value("SELECT sum(n)::int FROM t"), 85);
  });

  test("comes back when zenith start --watch is just looking what runs", async () => {
    // The command reads the pid files after about 50 ms, and then asks the servers.
    for (let delay = 20; delay <= 120; delay += 10) {
      const watch = startWatch();
      const ended = once(watch, "exit");
      try {
        await sleep(delay);
        await env.pageserver.kill9();
        await env.safekeepers[0].kill9();
        await untilServersAreBack();
      } finally {
        watch.kill("SIGTERM");
      }
      await ended;
    }
  });

  test("comes back by itself under zenith start --watch, and so do the servers", async () => {
    const watch = startWatch();
    const ended = once(watch, "exit");
    try {
      await env.pageserver.kill9();
      await env.safekeepers[0].kill9();
      await untilServersAreBack();
      await main.kill9();
      await until("Postgres is back", async () => {
        if (stateOf(main) !== "running") return false;
        return await main.value("SELECT sum(n)::int FROM t").catch(() => 0) === 85;
      });
      // What is stopped stays so.
      await main.stop();
    } finally {
      watch.kill("SIGTERM");
    }
    assert.deepEqual(await ended, [0, null]);
    assert.equal(stateOf(main), "absent");
  });
});
