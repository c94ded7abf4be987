import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parse } from "valibot";
import { parseTenantId } from "../../../../src/common/id.ts";
import { PageServerConfigSchema } from "../../../../src/common/page_server_config.ts";
import { PageServerPaths } from "../../../../src/common/paths.ts";
import { timestampOfMs } from "../../../../src/common/timestamp.ts";
import { pageImages } from "../../../../src/pageserver/content/rebuild_page.ts";
import { storedValues } from "../../../../src/pageserver/content/stored_values.ts";
import { PageServer } from "../../../../src/pageserver/service/page_server.ts";
import { flushHere, mergeHere } from "../../../../src/pagestore/mod.ts";
import { V15 } from "../../../../src/postgres/versions/v15.ts";
import { RM_XACT_ID } from "../../../../src/postgres/wal/rmgr.ts";
import { XLOG_XACT_COMMIT } from "../../../../src/postgres/wal/xact.ts";
import { NULL_LOGGER } from "../../../../src/process/log.ts";
import { FaultyDisk } from "../../../harness/faulty_disk.ts";
import { Random } from "../../../harness/random.ts";
import { makeTinyCluster, TINY_SEGMENT_SIZE } from "../../../harness/tiny_cluster.ts";
import { WalBuilder } from "../../../harness/wal_builder.ts";

const TENANT = parseTenantId("a".repeat(32));
const DAY_US = 86_400_000_000;
const MINUTE_US = 60_000_000;
const NOW = timestampOfMs(Date.UTC(2040, 0, 10));

/** xl_xact_commit: the time, and no xinfo. */
function commitBody(timestamp: number): Uint8Array {
  const body = new Uint8Array(8);
  new DataView(body.buffer).setBigInt64(0, BigInt(timestamp), true);
  return body;
}

describe("a clock that was set back", () => {
  test("makes a moment of the time that exists twice an error, and leaves the others alone", async () => {
    const disk = new FaultyDisk(new Random(1));
    makeTinyCluster(disk, "/cluster");
    const paths = new PageServerPaths("/w");
    disk.mkdirsSync(paths.tenants);
    await using stack = new AsyncDisposableStack();
    const server = await PageServer.open({
      disk,
      flushLayer: flushHere(disk, storedValues(V15)),
      mergeLayers: mergeHere(disk, pageImages(V15)),
      paths,
      config: parse(PageServerConfigSchema, {}),
      logger: NULL_LOGGER,
      initialCluster: () => Promise.resolve("/cluster"),
    });
    stack.defer(() => server.close());
    await server.createTenant(TENANT);
    const { branches, timelines } = server.tenant(TENANT);
    const timeline = await timelines.get((await branches.list())[0]!.timelineId);
    const start = timeline.boundary(null);
    const wal = new WalBuilder({
      startLsn: start.lsn,
      prev: start.prev,
      segmentSize: TINY_SEGMENT_SIZE,
      systemId: timeline.systemIdentifier,
    });
    const commit = (timestamp: number) =>
      wal.record({ rmid: RM_XACT_ID, info: XLOG_XACT_COMMIT, xid: 1000, main: commitBody(timestamp) }).endLsn;

    const old = commit(NOW - DAY_US);
    commit(NOW + 2 * DAY_US);
    let received = start.lsn;
    const receive = () => {
      timeline.receive(received, wal.bytes.slice(received - wal.from));
      received = wal.lsn;
    };
    receive();
    // The clock goes back by two days, and nothing is committed since.
    const refused = { kind: "conflict", message: /clock was set back/ };
    assert.throws(() => timeline.lsnAt(NOW, NOW), refused);
    assert.equal(timeline.lsnAt(NOW - 2 * MINUTE_US, NOW), old);

    commit(NOW - MINUTE_US);
    receive();
    assert.throws(() => timeline.lsnAt(NOW, NOW), refused);
    assert.throws(() => timeline.lsnAt(NOW - MINUTE_US, NOW), refused);
    assert.equal(timeline.lsnAt(NOW - 2 * MINUTE_US, NOW), old);
    // The newest is to be had without a time.
    assert.equal(timeline.boundary(null).lsn, wal.lsn);

    const last = commit(NOW + 3 * DAY_US);
    receive();
    assert.equal(timeline.lsnAt(NOW + 4 * DAY_US, NOW + 4 * DAY_US), last);
  });
});
