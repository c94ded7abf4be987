import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { timestampOfMs } from "../../../../src/common/timestamp.ts";
import { RM_XACT_ID } from "../../../../src/postgres/wal/rmgr.ts";
import { XLOG_XACT_COMMIT } from "../../../../src/postgres/wal/xact.ts";
import {
  mainTimeline,
  openTinyPageServer,
  TINY_TENANT,
  tinyDisk,
  walAfter,
} from "../../../harness/tiny_page_server.ts";

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
    await using stack = new AsyncDisposableStack();
    const server = await openTinyPageServer(tinyDisk());
    stack.defer(() => server.close());
    await server.createTenant(TINY_TENANT);
    const timeline = await mainTimeline(server);
    const wal = walAfter(timeline);
    const lsn = wal.lsn;
    const commit = (timestamp: number) =>
      wal.record({ rmid: RM_XACT_ID, info: XLOG_XACT_COMMIT, xid: 1000, main: commitBody(timestamp) }).endLsn;

    const old = commit(NOW - DAY_US);
    commit(NOW + 2 * DAY_US);
    let received = lsn;
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
