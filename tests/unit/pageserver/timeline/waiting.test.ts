import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { nextRecordLsn } from "../../../../src/postgres/wal/page_header.ts";
import { TINY_SEGMENT_SIZE } from "../../../harness/tiny_cluster.ts";
import {
  mainTimeline,
  openTinyPageServer,
  TINY_TENANT,
  tinyDisk,
  walAfter,
} from "../../../harness/tiny_page_server.ts";

const PAGE = 8192;
const XLOG_NOOP = 0x20;
/** Header, and the id and length of long main data. */
const RECORD_OVERHEAD = 29;
/** As long as a reader of the page server waits by default. */
const TIMEOUT_MS = 5_000;

describe("who waits for an LSN", () => {
  test("behind a page header has it when the record before it has come, and nothing follows", async () => {
    const server = await openTinyPageServer(tinyDisk());
    await server.createTenant(TINY_TENANT);
    const timeline = await mainTimeline(server);
    const wal = walAfter(timeline);
    const lsn = wal.lsn;
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
