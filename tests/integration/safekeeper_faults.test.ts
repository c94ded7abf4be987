/**
 * Three safekeepers under everything that can happen to them, while a workload keeps account of what was acknowledged to it.
 * Which one it happens to is random; a failing run says its seed, `ZENITH_SEED` repeats the choices.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, statfsSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { formatHostPort } from "../../src/common/host_port.ts";
import { addOwnSettings } from "../harness/branching.ts";
import { Random, seeds } from "../harness/random.ts";
import { TcpProxy } from "../harness/tcp_proxy.ts";
import { WriteHistory } from "../harness/write_history.ts";
import { type Compute, type SafekeeperHandle, until, ZenithEnv } from "../harness/zenith_env.ts";

const OPTIONS = { timeout: 180_000 };
const WRITERS = 4;
const SAFEKEEPERS = 3;
const QUORUM = 2;

let env: ZenithEnv;
let pg: Compute;
let history: WriteHistory;
let random: Random;

before(async () => {
  const [seed] = seeds(1);
  console.log(`safekeeper faults: seed ${seed}`);
  random = new Random(seed!);
  env = await ZenithEnv.create({ safekeepers: SAFEKEEPERS });
  pg = await env.startCompute();
  await WriteHistory.createTables(pg);
  history = new WriteHistory(WRITERS);
}, OPTIONS);
after(() => env[Symbol.asyncDispose]());

function pick<T>(from: readonly T[]): T {
  return from[random.int(from.length)];
}

async function isWaitingForQuorum(observer: { value(sql: string): Promise<unknown> }): Promise<boolean> {
  const sql = "SELECT count(*)::int FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
  return Number(await observer.value(sql)) > 0;
}

/** Every one of them has what the one that is furthest has. */
async function untilEqual(safekeepers: readonly SafekeeperHandle[]): Promise<void> {
  await until("all safekeepers have the same WAL", async () => {
    const positions = await Promise.all(safekeepers.map(async (one) => (await one.status())[0]?.flush_lsn));
    return positions.every((lsn) => lsn !== undefined && lsn === positions[0]);
  });
}

describe("what was acknowledged is there, and nothing twice", () => {
  test("when random ones of them go down and come up under load", OPTIONS, async () => {
    history.start(pg);
    const down = new Set<SafekeeperHandle>();
    for (let round = 0; round < 12; round++) {
      for (const safekeeper of env.safekeepers) {
        if (random.oneIn(2)) continue;
        if (down.delete(safekeeper)) await safekeeper.start();
        else {
          await (random.oneIn(2) ? safekeeper.kill9() : safekeeper.stop());
          down.add(safekeeper);
        }
      }
      if (SAFEKEEPERS - down.size >= QUORUM) await history.untilAcknowledged(20);
    }
    for (const safekeeper of down) await safekeeper.start();
    await history.untilAcknowledged(100);
    await history.stop();
    await history.verify(pg);
    await untilEqual(env.safekeepers);
    await pg.restart();
    await history.verify(pg);
  });

  for (const killed of ["compute", "page server", "compute and page server"]) {
    for (const withSafekeeper of [false, true]) {
      const name = `when ${killed} ${withSafekeeper ? "and a safekeeper " : ""}die at once`;
      test(name, OPTIONS, async () => {
        const victim = withSafekeeper ? pick(env.safekeepers) : undefined;
        history.start(pg);
        await history.untilAcknowledged(50);
        await Promise.all([
          ...(killed.includes("compute") ? [pg.kill9()] : []),
          ...(killed.includes("page server") ? [env.pageserver.kill9()] : []),
          ...(victim === undefined ? [] : [victim.kill9()]),
        ]);
        if (!killed.includes("compute")) await history.untilAcknowledged(50);
        await history.stop();
        if (killed.includes("page server")) await env.pageserver.start();
        if (killed.includes("compute")) await pg.start();
        // The one that was killed is still away: the others are a quorum.
        await history.verify(pg);
        await victim?.start();
        await env.untilArrived();
      });
    }
  }

  test("when one hangs, and when two do, which holds commits up until one goes on", OPTIONS, async () => {
    const [first, second] = [...env.safekeepers].sort(() => random.int(3) - 1) as [
      SafekeeperHandle,
      SafekeeperHandle,
    ];
    const pids = [first.pid, second.pid];
    await using observer = await pg.connect();
    history.start(pg);
    try {
      process.kill(first.pid, "SIGSTOP");
      await history.untilAcknowledged(100);
      process.kill(second.pid, "SIGSTOP");
      await until("a commit waits for the quorum", () => isWaitingForQuorum(observer));
      process.kill(first.pid, "SIGCONT");
      await history.untilAcknowledged(100);
    } finally {
      for (const pid of pids) process.kill(pid, "SIGCONT");
    }
    await history.untilAcknowledged(100);
    await history.stop();
    await history.verify(pg);
    await untilEqual(env.safekeepers);
  });
});

/** Only root can mount a file system that is small enough to fill. What every write does then is in the unit tests. */
if (process.getuid?.() === 0) {
  describe("a full disk", () => {
    test(
      "of one safekeeper keeps nobody from committing, and it catches up when there is room",
      OPTIONS,
      async () => {
        const full = pick(env.safekeepers);
        await full.stop();
        await onSmallDisk(full, async () => {
          await full.start();
          await pg.query("CREATE TABLE load (n int, v text)");
          await pg.query("INSERT INTO load SELECT n, repeat('x', 1000) FROM generate_series(1, 40000) n");
          await until("it says that its disk is full", () => /ENOSPC|no space|disk_full/i.test(full.log()));
          history.start(pg);
          await history.untilAcknowledged(100);
          await history.stop();
          run("mount", "-o", "remount,size=400m", full.paths.workdir);
          await untilEqual(env.safekeepers);
          await history.verify(pg);
          await pg.restart();
          assert.equal(await pg.value("SELECT count(*)::int FROM load"), 40000);
          await history.verify(pg);
          await full.stop();
        });
        await full.start();
      },
    );

    test(
      "of the only safekeeper holds commits up, and nothing is lost when there is room again",
      OPTIONS,
      async () => {
        // Without the page server it must not need a page.
        await using single = await ZenithEnv.create({ safekeepers: 1, storage: "eager" });
        const compute = await single.startCompute();
        await compute.query("CREATE TABLE load (n int, v text)");
        const [safekeeper] = single.safekeepers;
        await compute.stop();
        await single.untilArrived();
        // Without the page server nothing is removed from the safekeeper's disk.
        await safekeeper!.stop();
        await onSmallDisk(safekeeper!, async () => {
          await safekeeper!.start();
          await compute.start();
          await single.pageserver.kill9();
          let done = false;
          const load = compute.query(
            "INSERT INTO load SELECT n, repeat('x', 1000) FROM generate_series(1, 60000) n",
          ).then(() => done = true);
          await until(
            "it says that its disk is full",
            () => /ENOSPC|no space|disk_full/i.test(safekeeper!.log()),
          );
          await using observer = await compute.connect();
          await until("the commit waits for it", () => isWaitingForQuorum(observer));
          assert.equal(done, false);
          run("mount", "-o", "remount,size=400m", safekeeper!.paths.workdir);
          await load;
          await single.pageserver.start();
          await compute.kill9();
          await compute.start();
          assert.equal(await compute.value("SELECT count(*)::int FROM load"), 60000);
          await compute.stop();
          await safekeeper!.stop();
        });
      },
    );
  });
}

/** Last, because the account goes on on a branch. */
describe("what was acknowledged is there, through a network that fails", () => {
  test("when connections to them are cut, slow and dead", OPTIONS, async () => {
    await env.branch("proxied", "main");
    const proxied = await env.createCompute("proxied");
    await using proxies = new AsyncDisposableStack();
    const all = await Promise.all(env.safekeepers.map(({ address }) => TcpProxy.start(address)));
    for (const proxy of all) proxies.use(proxy);
    addOwnSettings(
      proxied,
      `zenith.wal_acceptors = '${all.map(({ address }) => formatHostPort(address)).join()}'`,
    );
    await proxied.start();
    history.start(proxied);
    for (let round = 0; round < 30; round++) {
      const proxy = pick(all);
      switch (random.int(4)) {
        case 0:
          proxy.delay(1 + random.int(30));
          break;
        case 1:
          proxy.delay(0);
          break;
        default:
          proxy.cut();
      }
      await history.untilAcknowledged(10);
    }
    for (const proxy of all) proxy.delay(0);
    const dead = pick(all);
    dead.swallow(true);
    await history.untilAcknowledged(100);
    dead.swallow(false);
    // All at once: nobody has a connection, and in whose log what was on its way is differs.
    for (const proxy of all) proxy.cut();
    await history.untilAcknowledged(50);
    for (const proxy of all) proxy.cut();
    await proxied.kill9();
    await history.stop();
    await proxied.start();
    await history.verify(proxied);
    await proxied.stop();
  });
});

/** Less than a segment of WAL: whatever is removed meanwhile, the next one does not fit. */
const ROOM_KIB = 8 << 10;

/**
 * With the safekeeper's directory on a file system of its own that has room for half a segment; it must be stopped before and
 * at the end of `body`.
 */
async function onSmallDisk(
  { paths: { workdir } }: SafekeeperHandle,
  body: () => Promise<void>,
): Promise<void> {
  run("mv", workdir, `${workdir}.moved`);
  mkdirSync(workdir);
  run("mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", workdir);
  try {
    run("cp", "-a", `${workdir}.moved/.`, workdir);
    const { blocks, bfree, bsize } = statfsSync(workdir);
    run("mount", "-o", `remount,size=${(blocks - bfree) * bsize / 1024 + ROOM_KIB}k`, workdir);
    await body();
    run("rm", "-rf", `${workdir}.moved`);
    run("cp", "-a", workdir, `${workdir}.moved`);
  } finally {
    run("umount", "-l", workdir);
  }
  run("rmdir", workdir);
  run("mv", `${workdir}.moved`, workdir);
}

function run(program: string, ...args: string[]): void {
  const done = spawnSync(program, args, { encoding: "utf8" });
  assert.equal(done.status, 0, `${program} ${args.join(" ")}: ${done.stderr}`);
}
