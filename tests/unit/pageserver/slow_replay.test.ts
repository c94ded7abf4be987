import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parse } from "valibot";
import { nextTurn } from "../../../src/common/event_loop.ts";
import { parseTenantId, type TenantId } from "../../../src/common/id.ts";
import { PageServerConfigSchema } from "../../../src/common/page_server_config.ts";
import { PageServerPaths } from "../../../src/common/paths.ts";
import { PageServer } from "../../../src/pageserver/service/page_server.ts";
import type { Timeline } from "../../../src/pageserver/timeline/timeline.ts";
import { flushHere, mergeHere } from "../../../src/pagestore/mod.ts";
import { NULL_LOGGER } from "../../../src/process/log.ts";
import { FaultyDisk } from "../../harness/faulty_disk.ts";
import { Random } from "../../harness/random.ts";
import { makeTinyCluster, TINY_SEGMENT_SIZE } from "../../harness/tiny_cluster.ts";
import { WalBuilder } from "../../harness/wal_builder.ts";

const SLOW = parseTenantId("a".repeat(32));
const OTHER = parseTenantId("b".repeat(32));
const PATHS = new PageServerPaths("/w");
const CLUSTER = "/cluster";

/** WAL that the slow timeline has beyond its layers: a dozen pieces. */
const WAL_BYTES = 3 << 20;
const RECORD_BYTES = 512;

function openServer(disk: FaultyDisk): Promise<PageServer> {
  return PageServer.open({
    disk,
    flushLayer: flushHere(disk),
    mergeLayers: mergeHere(disk),
    paths: PATHS,
    config: parse(PageServerConfigSchema, {}),
    logger: NULL_LOGGER,
    initialCluster: () => Promise.resolve(CLUSTER),
  });
}

async function openMain(server: PageServer, tenant: TenantId): Promise<Timeline> {
  const { branches, timelines } = server.tenant(tenant);
  const [main] = await branches.list();
  return (await timelines.hold(main!.timelineId)).value;
}

/** A page server after a kill: the timeline of one of its two tenants has much to replay, and is being opened. */
async function whileReplaying(
  body: (
    server: PageServer,
    opening: { readonly done: Promise<Timeline>; settled: boolean },
  ) => Promise<void>,
): Promise<void> {
  const disk = new FaultyDisk(new Random(1));
  makeTinyCluster(disk, CLUSTER);
  disk.mkdirsSync(PATHS.tenants);
  const before = await openServer(disk);
  await before.createTenant(SLOW);
  await before.createTenant(OTHER);
  const timeline = await openMain(before, SLOW);
  const { lsn, prev } = timeline.boundary(null);
  const wal = new WalBuilder({
    startLsn: lsn,
    prev,
    segmentSize: TINY_SEGMENT_SIZE,
    systemId: timeline.systemIdentifier,
  });
  const main = new Uint8Array(RECORD_BYTES);
  while (wal.bytes.length < WAL_BYTES) wal.record({ main });
  timeline.receive(lsn, wal.bytes.slice(lsn - wal.from));
  await timeline.makeDurable();
  disk.failAt(1, { kind: "crash" });
  await before.close().catch(() => {});
  disk.kill();

  const server = await openServer(disk);
  const done = server.tenant(SLOW).timelines.hold(timeline.timelineId).then(({ value }) => value);
  const opening = { done, settled: false };
  done.then(() => opening.settled = true, () => opening.settled = true);
  try {
    await body(server, opening);
  } finally {
    await server.close();
  }
}

describe("while one timeline replays its WAL at open", () => {
  test("status, the other tenant's branches, and the making and deleting of tenants do not wait", async () => {
    await whileReplaying(async (server, opening) => {
      const status = await server.status();
      assert.equal(status.tenants, 2);
      assert.equal((await server.tenant(OTHER).branches.list()).length, 1);
      await server.createTenant(parseTenantId("c".repeat(32)));
      await server.deleteTenant(OTHER);
      assert.equal(opening.settled, false, "it is still being opened");
      await opening.done;
    });
  });

  test("everybody else has a turn between two pieces", async () => {
    await whileReplaying(async (_server, opening) => {
      let turns = 0;
      while (!opening.settled) {
        await nextTurn();
        turns++;
      }
      await opening.done;
      assert.ok(turns >= 8, `${turns} turns during the replay of ${WAL_BYTES} bytes`);
    });
  });

  test("its tenant can be deleted: it breaks off", async () => {
    await whileReplaying(async (server, opening) => {
      const failed = assert.rejects(opening.done, { kind: "unavailable" });
      await server.deleteTenant(SLOW);
      await failed;
      assert.deepEqual(server.tenants(), [OTHER]);
    });
  });

  test("the page server can be stopped, and replays what is left at the next start", async () => {
    await whileReplaying(async (server, opening) => {
      const failed = assert.rejects(opening.done, { kind: "unavailable" });
      await server.close();
      await failed;
    });
  });
});
