/** What timelines cost a safekeeper that nobody writes to, and how much WAL stays on its disk of one that is written to. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { generateTimelineId, type TimelineId } from "../../src/common/id.ts";
import type { Lsn } from "../../src/common/lsn.ts";
import { WalProposer } from "../../src/compute/proposer/wal_proposer.ts";
import { createLogger } from "../../src/process/log.ts";
import { type SafekeeperHandle, until, ZenithEnv } from "../harness/zenith_env.ts";

const OPTIONS = { timeout: 180_000 };
const TIMELINES = 200;
const SEGMENT_BYTES = 16 << 20;
/** Generous: what 200 timelines may take for good, when it is their number that counts and not their WAL. */
const IDLE_MAX_BYTES = 32 << 20;

let env: ZenithEnv;

before(async () => {
  env = await ZenithEnv.create({ safekeepers: 3 });
}, OPTIONS);
after(() => env[Symbol.asyncDispose]());

function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024;
}

/** Files of its timelines that it has open. */
function openFiles({ pid, paths }: SafekeeperHandle): number {
  return readdirSync(`/proc/${pid}/fd`).filter((fd) => {
    try {
      return /\/[0-9a-f]{32}\/[0-9a-f]{32}\//.test(
        readlinkSync(`/proc/${pid}/fd/${fd}`).replace(paths.workdir, ""),
      );
    } catch {
      return false;
    }
  }).length;
}

/** A compute's election on a new timeline, as its start begins, and its end. */
async function electOnce({ address }: SafekeeperHandle, timeline: TimelineId): Promise<void> {
  const proposer = new WalProposer({
    tenant: env.defaultTenant,
    timeline,
    acceptors: [address],
    systemId: 7n,
    pgVersion: 15,
    segmentSize: SEGMENT_BYTES,
    timelineStartLsn: 0x1500028 as Lsn,
    onFenced: () => {},
    logger: createLogger({ name: "test", level: "error" }),
  });
  await proposer.elect();
  await proposer.stop();
}

describe("a safekeeper", () => {
  test(
    "has nothing open, and little in memory, of 200 timelines that nobody writes to",
    OPTIONS,
    async () => {
      const [safekeeper] = env.safekeepers as [SafekeeperHandle];
      await electOnce(safekeeper, generateTimelineId());
      const before = residentBytes(safekeeper.pid);
      for (let i = 0; i < TIMELINES; i++) await electOnce(safekeeper, generateTimelineId());
      await until("they are closed", () => openFiles(safekeeper) === 0);
      const growth = residentBytes(safekeeper.pid) - before;
      console.log(`${TIMELINES} idle timelines: ${(growth / (1 << 20)).toFixed(1)} MiB`);
      assert.ok(growth < IDLE_MAX_BYTES, `${growth} bytes`);
      // They are there all the same.
      assert.equal((await safekeeper.status()).length, TIMELINES + 1);
      await until("they are closed again", () => openFiles(safekeeper) === 0);
    },
  );

  test("keeps a few segments of WAL, however much is written", OPTIONS, async () => {
    const pg = await env.startCompute();
    await pg.query("CREATE TABLE t (v text)");
    for (let i = 0; i < 6; i++) {
      await pg.query("INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 20000)");
    }
    const { timeline_id } = (await env.pageserver.client().branchList(env.defaultTenant))[0];
    for (const safekeeper of env.safekeepers) {
      await until("WAL that the page server has is removed", async () => {
        const status = (await safekeeper.status()).find((status) => status.timeline_id === timeline_id);
        return status!.flush_lsn > 7 * SEGMENT_BYTES && status!.wal_bytes <= 4 * SEGMENT_BYTES;
      });
    }
    await pg.stop();
  });
});
