/** `branch delete` returns before Postgres has ended: what becomes of the rest, whatever is killed meanwhile. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { findMount } from "../../src/compute/lazy/fuse/mount.ts";
import { postmasterPid } from "../../src/compute/postgres/postgres_process.ts";
import { checkPidFile, isRunning, type ProcessIdentity, startTimeOf } from "../../src/process/pid_file.ts";
import { zenithCommand } from "../harness/cli.ts";
import { Random, seeds } from "../harness/random.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

const [SEED = 1] = seeds(1);

let env: ZenithEnv;
let stopped: ProcessIdentity | undefined;

before(async () => {
  env = await ZenithEnv.create({ safekeepers: 1 });
  await using main = await env.startCompute("main");
  await main.query("CREATE TABLE t AS SELECT 'main' AS branch");
  await main.stop();
});
afterEach(() => {
  if (stopped !== undefined && isRunning(stopped)) process.kill(stopped.pid, "SIGCONT");
  stopped = undefined;
});
after(() => env[Symbol.asyncDispose]());

/** A branch with a Postgres and a row of its own. */
async function started(
  name: string,
): Promise<{ compute: Compute; supervisor: ProcessIdentity; timeline: string }> {
  await env.branch(name, "main");
  const compute = await env.startCompute(name);
  await compute.query(`INSERT INTO t VALUES ('${name}')`);
  const found = checkPidFile(compute.paths.pidFile);
  assert.ok(found.state === "running");
  await using wire = await env.pageserver.connect();
  const { timeline_id: timeline } = await wire.json(`branch_get ${env.defaultTenant} ${name}`) as {
    timeline_id: string;
  };
  return { compute, supervisor: found.process, timeline };
}

/** Freezes it, so that the rest of a deletion waits. */
function freeze(supervisor: ProcessIdentity): void {
  process.kill(supervisor.pid, "SIGSTOP");
  stopped = supervisor;
}

/** The names of the directories of computes, also of those that are going. */
function directories(): string[] {
  return readdirSync(env.paths.computes(env.defaultTenant), { withFileTypes: true })
    .filter((entry) => entry.isDirectory()).map(({ name }) => name);
}

/** What the Postgres has that runs there now, which has another port than the one before. */
function rows(branch: string): Promise<string> {
  return env.zenith("psql", branch, "--", "-Atc", "SELECT branch FROM t");
}

async function safekeeperTimelines(): Promise<string[]> {
  return (await env.safekeepers[0]!.status()).map(({ timeline_id }) => timeline_id);
}

/** Nobody may have waited for it: it counts as ended as a zombie too. */
function hasEnded(pid: number): boolean {
  const path = `/proc/${pid}/stat`;
  return !existsSync(path) || startTimeOf(readFileSync(path, "utf8")) === undefined;
}

async function untilGone(compute: Compute): Promise<void> {
  await until("the compute is removed", () => !directories().some((name) => name.includes(compute.branch)));
  assert.equal(findMount(compute.paths.mount), undefined);
}

describe("a branch that is deleted while its Postgres runs", () => {
  test("is gone at once, and its Postgres, its files and its WAL soon after", async () => {
    const { compute, timeline } = await started("plain");
    const postmaster = postmasterPid(compute.paths.pgdata)!;
    assert.equal(await env.zenith("branch", "delete", "plain", "--stop"), "branch plain deleted\n");
    assert.doesNotMatch(await env.zenith("branch"), /plain/);
    await untilGone(compute);
    assert.ok(hasEnded(postmaster));
    assert.ok(!(await safekeeperTimelines()).includes(timeline));
    assert.deepEqual(directories(), ["main"]);
  });

  test("is none for anybody while its Postgres is still ending, except that status says so", async () => {
    const { compute, supervisor } = await started("slow");
    freeze(supervisor);
    await env.zenith("branch", "delete", "slow", "--stop");
    assert.match(await env.zenith("status"), /branch slow is deleted, its Postgres is still ending/);
    assert.doesNotMatch(await env.zenith("pg", "list"), /slow/);
    assert.match((await env.tryZenith("psql", "slow")).stderr, /slow/);
    // The name is free. A Postgres of that name waits for the other one to end.
    await env.branch("slow", "main");
    const next = env.zenith("pg", "start", "slow");
    process.kill(supervisor.pid, "SIGCONT");
    await next;
    assert.equal(await rows("slow"), "main\n");
    assert.doesNotMatch(await env.zenith("status"), /is deleted/);
    await env.zenith("branch", "delete", "slow", "--stop");
    await untilGone(compute);
  });

  test("is taken up by zenith start when its supervisor is killed", async () => {
    const { compute, supervisor, timeline } = await started("killed");
    const postmaster = postmasterPid(compute.paths.pgdata)!;
    freeze(supervisor);
    await env.zenith("branch", "delete", "killed", "--stop");
    process.kill(supervisor.pid, "SIGKILL");
    await until("it has ended", () => !isRunning(supervisor));
    assert.match(await env.zenith("status"), /branch killed is deleted, its Postgres not removed yet/);
    assert.ok(existsSync(compute.paths.dir));
    assert.match(await env.zenith("start"), /what was left of deleted branch killed removed/);
    assert.deepEqual(directories(), ["main"]);
    assert.ok(hasEnded(postmaster));
    assert.ok(!(await safekeeperTimelines()).includes(timeline));
    assert.doesNotMatch(await env.zenith("status"), /is deleted/);
  });

  test("is taken up by a new Postgres of that name when its supervisor is killed", async () => {
    const { compute, supervisor } = await started("again");
    freeze(supervisor);
    await env.zenith("branch", "delete", "again", "--stop");
    process.kill(supervisor.pid, "SIGKILL");
    await until("it has ended", () => !isRunning(supervisor));
    await env.zenith("branch", "again", "main", "--start");
    assert.equal(await rows("again"), "main\n");
    await env.zenith("branch", "delete", "again", "--stop");
    await untilGone(compute);
  });

  test("is taken up by zenith start when the command died as soon as the page server knew", async () => {
    const { compute } = await started("half");
    {
      await using wire = await env.pageserver.connect();
      await wire.query(`branch_delete ${env.defaultTenant} half stopping=1`);
    }
    await env.zenith("start");
    await untilGone(compute);
    assert.deepEqual(directories(), ["main"]);
  });

  test("has what a killed removal has left taken away by zenith start", async () => {
    const left = join(env.paths.computes(env.defaultTenant), ".gone.removed.4194305");
    mkdirSync(left);
    writeFileSync(join(left, "compute.conf"), "");
    await env.zenith("start");
    assert.deepEqual(directories(), ["main"]);
  });

  test("is waited for by zenith stop", async () => {
    const { compute, supervisor } = await started("last");
    freeze(supervisor);
    await env.zenith("branch", "delete", "last", "--stop");
    const stopping = env.zenith("stop");
    process.kill(supervisor.pid, "SIGCONT");
    await stopping;
    assert.ok(!existsSync(compute.paths.dir));
    assert.ok(!isRunning(supervisor));
    await env.zenith("start");
  });

  test("stays, and its Postgres goes on, when it may not be deleted", async () => {
    const { compute } = await started("kept");
    await env.zenith("branch", "protect", "kept");
    const refused = await env.tryZenith("branch", "delete", "kept", "--stop");
    assert.match(refused.stderr, /branch kept is protected/);
    assert.equal(await compute.value("SELECT count(*) FROM t"), "2");
    await env.zenith("branch", "unprotect", "kept");
    await using wire = await env.pageserver.connect();
    await assert.rejects(
      wire.query(`branch_delete ${env.defaultTenant} kept stopping=0`),
      /a Postgres runs on kept/,
    );
    assert.equal(await compute.value("SELECT count(*) FROM t"), "2");
    await env.zenith("branch", "delete", "kept", "--stop");
    await untilGone(compute);
  });

  test("is all there or all gone, whenever the command is killed", async () => {
    const random = new Random(SEED);
    for (let round = 0; round < 6; round++) {
      const name = `shot_${round}`;
      const { compute } = await started(name);
      const [file, ...args] = [...zenithCommand(), "branch", "delete", name, "--stop"];
      const command = spawn(file!, args, {
        env: { ...process.env, ZENITH_REPO_DIR: env.repoDir },
        stdio: "ignore",
      });
      const ended = new Promise((resolve) => command.on("exit", resolve));
      const timer = setTimeout(() => command.kill("SIGKILL"), random.int(80));
      await ended;
      clearTimeout(timer);
      const isThere = new RegExp(`\\b${name}\\b`).test(await env.zenith("branch"));
      if (isThere) {
        assert.equal(await compute.value("SELECT count(*) FROM t"), "2", `seed ${SEED}, ${name}`);
        await env.zenith("branch", "delete", name, "--stop");
      } else await env.zenith("start");
      await untilGone(compute);
    }
    assert.deepEqual(directories(), ["main"]);
    assert.equal((await safekeeperTimelines()).length, 1);
  });
});
