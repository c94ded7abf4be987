import assert from "node:assert/strict";
import { describe, test } from "node:test";
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

describe("WAL that ended where a page does when the page server was killed", () => {
  test("goes on with that page's header, and is all there after the next kill", async () => {
    const disk = tinyDisk();
    const first = await openTinyPageServer(disk);
    await first.createTenant(TINY_TENANT);
    const before = await mainTimeline(first);
    const wal = walAfter(before);
    const room = PAGE - wal.lsn % PAGE;
    const { endLsn } = wal.record({ info: XLOG_NOOP, main: new Uint8Array(room - RECORD_OVERHEAD) });
    assert.equal(endLsn % PAGE, 0, "the record ends where the page does");
    const start = await before.restartReceiving();
    before.receive(start, wal.bytes.slice(start - wal.from));
    await before.makeDurable();
    disk.kill();

    const second = await openTinyPageServer(disk);
    const between = await mainTimeline(second);
    wal.record({ info: XLOG_NOOP, main: new Uint8Array(100) });
    const from = await between.restartReceiving();
    assert.equal(from, endLsn, "the header is still to come");
    between.receive(from, wal.bytes.slice(from - wal.from));
    await between.makeDurable();
    const { position } = between;
    disk.kill();

    const third = await openTinyPageServer(disk);
    const after = await mainTimeline(third);
    assert.equal(after.position, position);
    assert.equal(await after.restartReceiving(), position);
    await third.close();
  });
});
