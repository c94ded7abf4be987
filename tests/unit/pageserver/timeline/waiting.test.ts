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
import { nextRecordLsn } from "../../../../src/postgres/wal/page_header.ts";
import { NULL_LOGGER } from "../../../../src/process/log.ts";
import { FaultyDisk } from "../../../harness/faulty_disk.ts";
import { Random } from "../../../harness/random.ts";
import { makeTinyCluster, TINY_SEGMENT_SIZE } from "../../../harness/tiny_cluster.ts";
import { WalBuilder } from "../../../harness/wal_builder.ts";

const TENANT = parseTenantId("a".repeat(32));
const PAGE = 8192;
const XLOG_NOOP = 0x20;
/** Header, and the id and length of long main data. */
const RECORD_OVERHEAD = 29;
/** As long as a reader of the page server waits by default. */
const TIMEOUT_MS = 5_000;

describe("who waits for an LSN", () => {
  test("behind a page header has it when the record before it has come, and nothing follows", async () => {
    const disk = new FaultyDisk(new Random(1));
    makeTinyCluster(disk, "/cluster");
    const paths = new PageServerPaths("/w");
    disk.mkdirsSync(paths.tenants);
    const server = await PageServer.open({
      disk,
      flushLayer: flushHere(disk, storedValues(V15)),
      mergeLayers: mergeHere(disk, pageImages(V15)),
      paths,
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
    const room = PAGE - wal.lsn % PAGE;
    const { endLsn } = wal.record({ info: XLOG_NOOP, main: new Uint8Array(room - RECORD_OVERHEAD) });
    assert.equal(endLsn % PAGE, 0, "the record ends where the page does");
    const behindHeader = nextRecordLsn(endLsn, TINY_SEGMENT_SIZE);

    const arrived = timeline.waitFor(behindHeader, TIMEOUT_MS);
    timeline.receive(lsn, wal.bytes.slice(lsn - wal.from));
    await arrived;
    assert.equal(timeline.position, behindHeader);
    await server.close();
  });
});
