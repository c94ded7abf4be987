import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parse } from "valibot";
import { parseTenantId } from "../../../../src/common/id.ts";
import { PageServerConfigSchema } from "../../../../src/common/page_server_config.ts";
import { PageServerPaths } from "../../../../src/common/paths.ts";
import { pageImages } from "../../../../src/pageserver/content/rebuild_page.ts";
import { storedValues } from "../../../../src/pageserver/content/stored_values.ts";
import { PageServer } from "../../../../src/pageserver/service/page_server.ts";
import { flushHere, mergeHere } from "../../../../src/pagestore/mod.ts";
import { V15 } from "../../../../src/postgres/versions/v15.ts";
import { BKPIMAGE_APPLY } from "../../../../src/postgres/wal/record.ts";
import { XLOG_CHECKPOINT_REDO, XLOG_FPI } from "../../../../src/postgres/wal/records/xlog.ts";
import { RM_XLOG_ID } from "../../../../src/postgres/wal/rmgr.ts";
import { NULL_LOGGER } from "../../../../src/process/log.ts";
import { FaultyDisk } from "../../../harness/faulty_disk.ts";
import { Random } from "../../../harness/random.ts";
import { makeTinyCluster, TINY_SEGMENT_SIZE } from "../../../harness/tiny_cluster.ts";
import { WalBuilder } from "../../../harness/wal_builder.ts";

const TENANT = parseTenantId("a".repeat(32));
const PATHS = new PageServerPaths("/w");
const REL = [1663, 5, 16384] as const;
const BLCKSZ = 8192;

describe("a record of a type that the major does not have", () => {
  test("ends a timeline, which stays readable up to there, by name", async () => {
    const disk = new FaultyDisk(new Random(1));
    makeTinyCluster(disk, "/cluster");
    disk.mkdirsSync(PATHS.tenants);
    const server = await PageServer.open({
      disk,
      flushLayer: flushHere(disk, storedValues(V15)),
      mergeLayers: mergeHere(disk, pageImages(V15)),
      paths: PATHS,
      config: parse(PageServerConfigSchema, {}),
      logger: NULL_LOGGER,
      initialCluster: () => Promise.resolve("/cluster"),
    });
    await server.createTenant(TENANT);
    const { branches, timelines } = server.tenant(TENANT);
    const timeline = await timelines.get((await branches.list())[0]!.timelineId);
    const { lsn, prev } = timeline.boundary(null);
    const wal = new WalBuilder({
      startLsn: lsn,
      prev,
      segmentSize: TINY_SEGMENT_SIZE,
      systemId: timeline.systemIdentifier,
    });
    const known = wal.record({
      rmid: RM_XLOG_ID,
      info: XLOG_FPI,
      blocks: [{
        id: 0,
        rel: REL,
        blkno: 0,
        image: { bytes: new Uint8Array(BLCKSZ).fill(7), info: BKPIMAGE_APPLY },
      }],
    });
    // From PostgreSQL 17 on there is one.
    wal.record({ rmid: RM_XLOG_ID, info: XLOG_CHECKPOINT_REDO, main: new Uint8Array(4) });
    wal.record();

    assert.throws(
      () => timeline.receive(lsn, wal.bytes.slice(lsn - wal.from)),
      /PostgreSQL 15 has no XLOG record of type 0xe0/,
    );
    assert.deepEqual([timeline.lastRecordLsn, timeline.position], [known.endLsn, known.endLsn]);
    const view = timeline.at(known.endLsn);
    const page = new Uint8Array(BLCKSZ);
    view.readPage(view.fork(...REL, 0), 0, page, 0);
    assert.equal(page[BLCKSZ - 1], 7);
    await server.close();
  });
});
