/**
 * A supervisor whose compute was stopped takes the next start, and so does one that was started ahead of need; what becomes of
 * them when they are killed, frozen or outdated.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { postmasterPid } from "../../src/compute/postgres/postgres_process.ts";
import { findMount } from "../../src/compute/lazy/fuse/mount.ts";
import { checkPidFile, isRunning, type ProcessIdentity } from "../../src/process/pid_file.ts";
import { isFileLocked } from "../../src/process/file_lock.ts";
import { aheadLock } from "../../src/process/spare_ahead.ts";
import type { FoundSpare } from "../../src/process/spare_slots.ts";
import { runZenith, zenithCommand } from "../harness/cli.ts";
import { Serve } from "../harness/serve.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

const isExecutable = zenithCommand().length === 1;
const skip = isExecutable ? false : "the sources have no spares: ZENITH_BIN names no executable";

let env: ZenithEnv;
let one: Compute;
let other: Compute;

before(async () => {
  env = await ZenithEnv.create();
  await using main = await env.startCompute("main");
  await main.query("CREATE TABLE t AS SELECT i, 'main' AS branch FROM generate_series(1, 5000) i");
  await main.stop();
  await endSpares();
  await env.branch("one", "main");
  await env.branch("other", "main");
  one = await env.createCompute("one");
  other = await env.createCompute("other");
});
after(() => env[Symbol.asyncDispose]());

function supervisor(compute: Compute): ProcessIdentity {
  const found = checkPidFile(compute.paths.pidFile);
  assert.ok(found.state === "running");
  return found.process;
}

/** Starts and stops a compute, unless a supervisor waits already. @returns the one that waits */
async function makeSpare(): Promise<FoundSpare> {
  if (env.spares().length === 0) {
    await one.start();
    await one.stop();
  }
  const [spare, ...more] = env.spares();
  assert.ok(spare !== undefined && more.length === 0);
  return spare;
}

async function endSpares(): Promise<void> {
  for (const { process } of env.spares()) await end(process, "SIGTERM");
}

async function end(process_: ProcessIdentity, signal: NodeJS.Signals): Promise<void> {
  process.kill(process_.pid, signal);
  await until("the process has ended", () => !isRunning(process_));
}

describe("a supervisor whose compute was stopped", { skip }, () => {
  test("has let go of it, and serves the pages of the next one", async () => {
    await one.start();
    const process_ = supervisor(one);
    await one.query("UPDATE t SET branch = 'one'");
    await one.stop();
    assert.equal(findMount(one.paths.mount), undefined);
    assert.ok(!existsSync(one.paths.overlay));
    const fds = `/proc/${process_.pid}/fd`;
    const files = () =>
      readdirSync(fds).flatMap((fd) => {
        try {
          return [readlinkSync(join(fds, fd))];
        } catch {
          return [];
        }
      });
    await until("its files are closed", () => !files().some((file) => file.startsWith(one.paths.dir)));
    assert.equal(readlinkSync(`/proc/${process_.pid}/cwd`), "/");

    await other.start();
    assert.deepEqual(supervisor(other), process_);
    assert.deepEqual(env.spares(), []);
    assert.deepEqual(await other.query("SELECT branch, count(*)::int FROM t GROUP BY 1"), [{
      branch: "main",
      count: 5000,
    }]);
    await other.query("UPDATE t SET branch = 'other' WHERE i <= 100");
    await other.stop("immediate");

    await one.start();
    assert.deepEqual(supervisor(one), process_);
    assert.deepEqual(await one.query("SELECT branch, count(*)::int FROM t GROUP BY 1"), [{
      branch: "one",
      count: 5000,
    }]);
    assert.match(one.log(), new RegExp(`"pid":${process_.pid},.*"msg":"ready"`));
    await one.stop();
    await other.start();
    assert.equal(await other.value("SELECT count(*)::int FROM t WHERE branch = 'other'"), 100);
    await other.stop();
  });

  test("has the environment of the command that starts the next", async () => {
    const spare = await makeSpare();
    const result = await runZenith(["pg", "start", "one"], {
      ZENITH_REPO_DIR: env.repoDir,
      GREETING: "hello",
    });
    assert.equal(result.code, 0, result.stderr);
    assert.deepEqual(supervisor(one), spare.process);
    const environment = readFileSync(`/proc/${postmasterPid(one.paths.pgdata)}/environ`, "utf8").split("\0");
    assert.ok(environment.includes("GREETING=hello"));
    await one.restart();
    const later = readFileSync(`/proc/${postmasterPid(one.paths.pgdata)}/environ`, "utf8");
    assert.doesNotMatch(later, /GREETING/);
    await one.stop();
  });

  test("is not used by a command with other limits", async () => {
    const spare = await makeSpare();
    const [bin] = zenithCommand();
    const environment = { ...process.env, ZENITH_REPO_DIR: env.repoDir };
    const started = spawnSync("nice", ["-n", "3", bin!, "pg", "start", "one"], {
      env: environment,
      encoding: "utf8",
    });
    assert.equal(started.status, 0, started.stderr);
    assert.notEqual(supervisor(one).pid, spare.process.pid);
    assert.deepEqual(env.spares(), [spare]);
    await end(spare.process, "SIGTERM");
    await one.stop();
    await endSpares();
  });

  test("says why a start fails, and ends", async () => {
    const spare = await makeSpare();
    const failed = await env.tryZenith(
      "pg",
      "start",
      "one",
      "--first-start-sql",
      join(env.dir, "nowhere.sql"),
    );
    assert.notEqual(failed.code, 0);
    assert.match(failed.stderr, /^zenith: /);
    await until("it has ended", () => !isRunning(spare.process));
    await one.start();
    await one.stop();
  });

  test("that is killed is not missed", async () => {
    const spare = await makeSpare();
    await end(spare.process, "SIGKILL");
    assert.ok(existsSync(spare.socket));
    await one.start();
    assert.notEqual(supervisor(one).pid, spare.process.pid);
    await one.stop();
    // The next one waits where that one did.
    assert.equal(env.spares()[0]!.socket, spare.socket);
    await other.start();
    await other.stop();
  });

  test("that is frozen is not waited for, and starts nothing when it goes on", async () => {
    const spare = await makeSpare();
    process.kill(spare.process.pid, "SIGSTOP");
    try {
      await one.start();
      assert.notEqual(supervisor(one).pid, spare.process.pid);
    } finally {
      process.kill(spare.process.pid, "SIGCONT");
    }
    await other.start();
    assert.deepEqual(supervisor(other), spare.process);
    await other.stop();
    await one.stop();
    assert.equal(env.spares().length, 2);
    await end(env.spares()[1]!.process, "SIGTERM");
  });

  test("of another version of the program is ended, not used", async () => {
    const spare = await makeSpare();
    const newer = join(env.dir, "zenith");
    copyFileSync(zenithCommand()[0]!, newer);
    const result = await runZenith(["pg", "start", "one"], { ZENITH_REPO_DIR: env.repoDir }, {
      command: [newer],
    });
    assert.equal(result.code, 0, result.stderr);
    assert.notEqual(supervisor(one).pid, spare.process.pid);
    await until("the old one has ended", () => !isRunning(spare.process));
    await one.stop();
    await endSpares();
    rmSync(newer);
  });

  test("that is killed at work takes its Postgres along, like any other", async () => {
    await makeSpare();
    await one.start();
    await one.query("INSERT INTO t VALUES (0, 'killed')");
    const postmaster = postmasterPid(one.paths.pgdata)!;
    await end(supervisor(one), "SIGKILL");
    await until("Postgres has ended", () => !existsSync(`/proc/${postmaster}`));
    await one.start();
    assert.equal(await one.value("SELECT count(*)::int FROM t WHERE i = 0"), 1);
    await one.stop();
  });

  test("ends when everything is stopped, and when its environment is removed", async () => {
    const spare = await makeSpare();
    await env.zenith("stop");
    assert.ok(!isRunning(spare.process));
    assert.deepEqual(env.spares(), []);
    await env.zenith("start");
    const next = await makeSpare();
    rmSync(env.paths.spares, { recursive: true });
    await until("it has ended", () => !isRunning(next.process));
  });
});

/** What a process alone has of memory, in bytes. */
function ownMemory(pid: number): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const amounts = [...text.matchAll(/^Private_(?:Clean|Dirty): +(\d+) kB$/gm)];
  return amounts.reduce((sum, [, kilobytes]) => sum + Number(kilobytes) * 1024, 0);
}

describe("a supervisor that is started ahead of need", { skip }, () => {
  before(async () => {
    await endSpares();
    env.configureCompute({ spares_ahead: true });
  });

  /** The only one that waits, once it does. */
  async function waiting(): Promise<FoundSpare> {
    await until(
      "a supervisor waits",
      () => env.spares().length > 0 && !isFileLocked(aheadLock(env.paths.spares)),
    );
    const [spare, ...more] = env.spares();
    assert.ok(spare !== undefined && more.length === 0);
    return spare;
  }

  test("waits beside each Postgres, and takes the next start", async () => {
    await one.start();
    const spare = await waiting();
    assert.match(readFileSync(`/proc/${spare.process.pid}/cmdline`, "utf8"), /\0--wait\0/);
    assert.ok(ownMemory(spare.process.pid) < 60e6, `${ownMemory(spare.process.pid)} bytes`);
    await other.start();
    assert.deepEqual(supervisor(other), spare.process);
    assert.equal(await other.value("SELECT count(*)::int FROM t"), 5000);
    const next = await waiting();
    assert.notEqual(next.process.pid, spare.process.pid);

    // It is missed by nobody when it is killed, and the start that missed it has another one wait.
    await end(next.process, "SIGKILL");
    await other.stop("immediate");
    const used = await waiting();
    assert.deepEqual(used.process, spare.process);
    await end(used.process, "SIGKILL");
    await other.start();
    await waiting();
    // Two wait at most.
    await other.stop();
    await one.stop();
    assert.equal(env.spares().length, 2);
  });

  test("is gone when everything is stopped, though it was just being started", async () => {
    await endSpares();
    await one.start();
    await env.zenith("stop");
    assert.deepEqual(env.spares(), []);
    await until("all have ended", () => env.supervisors().length === 0);
    await env.zenith("start");
    await waiting();
    await one.stop();
    await endSpares();
  });

  test("waits while zenith serve runs", async () => {
    await using serve = await Serve.start(env);
    const spare = await waiting();
    await end(spare.process, "SIGKILL");
    assert.notEqual((await waiting()).process.pid, spare.process.pid);
    await serve.stop();
    assert.deepEqual(env.spares(), []);
    await until("all have ended", () => env.supervisors().length === 0);
  });
});
