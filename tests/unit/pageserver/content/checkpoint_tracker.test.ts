import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { CheckpointTracker } from "../../../../src/pageserver/content/checkpoint_tracker.ts";
import type { SingleValues } from "../../../../src/pageserver/content/single_values.ts";
import { type CheckPoint, parseCheckpoint } from "../../../../src/postgres/cluster/checkpoint.ts";

const SIZE_OF_CHECKPOINT = 88;

function checkpoint(fields: Partial<CheckPoint>): CheckPoint {
  return {
    ...parseCheckpoint(new Uint8Array(SIZE_OF_CHECKPOINT), 0),
    oldestXid: 3,
    oldestMulti: 1,
    nextMulti: 1,
    ...fields,
  };
}

/** A tracker that stores nothing. */
function tracker(fields: Partial<CheckPoint>): CheckpointTracker {
  return new CheckpointTracker({ put() {} } as unknown as SingleValues, checkpoint(fields));
}

describe("the state that the next checkpoint would have", () => {
  test("takes counters and horizons forward with an online checkpoint", () => {
    const tracked = tracker({ nextXid: 1024 });
    tracked.noteCheckpoint(
      checkpoint({
        nextXid: 5000,
        oldestXid: 700,
        oldestXidDB: 5,
        oldestMulti: 20,
        oldestMultiDB: 5,
        nextMulti: 30,
      }),
      false,
    );
    assert.equal(tracked.state.nextXid, 5000);
    assert.equal(tracked.state.oldestXid, 700);
    assert.equal(tracked.state.oldestXidDB, 5);
    assert.equal(tracked.state.oldestMulti, 20);
    assert.equal(tracked.state.nextMulti, 30);
  });

  test("has the exact next transaction after RUNNING_XACTS, and is ahead again with the next one", () => {
    const tracked = tracker({ nextXid: 1024 });
    tracked.noteXid(1500);
    assert.equal(tracked.state.nextXid, 2048);
    tracked.noteRunning(1501);
    assert.equal(tracked.state.nextXid, 1501);
    tracked.noteXid(1500);
    assert.equal(tracked.state.nextXid, 1501);
    tracked.noteXid(1501);
    assert.equal(tracked.state.nextXid, 2048);
    // A compute that began with the rounded id.
    tracked.noteRunning(2048);
    assert.equal(tracked.state.nextXid, 2048);
    // Nothing that a healthy server logs.
    for (const nextXid of [0, 1, 900, 3000]) tracked.noteRunning(nextXid);
    assert.equal(tracked.state.nextXid, 2048);
  });

  test("has the exact next transaction in a later epoch too", () => {
    const tracked = tracker({ nextXid: 5 * 2 ** 32 + 2 ** 31 + 10 });
    tracked.noteXid(2 ** 31 + 300);
    tracked.noteRunning(2 ** 31 + 301);
    assert.equal(tracked.state.nextXid, 5 * 2 ** 32 + 2 ** 31 + 301);
    const wrapped = tracker({ nextXid: 6 * 2 ** 32 });
    wrapped.noteRunning(2 ** 32 - 20);
    assert.equal(wrapped.state.nextXid, 6 * 2 ** 32 - 20);
    wrapped.noteXid(4);
    assert.equal(wrapped.state.nextXid, 6 * 2 ** 32 + 1024);
  });

  test("does not go back to the beginning of an online checkpoint", () => {
    const tracked = tracker({ nextXid: 1024 });
    tracked.noteXid(9000);
    tracked.noteMultiXact(40, 100, 2);
    tracked.setOldestXid(800, 1);
    tracked.setOldestMulti(35, 1);
    tracked.noteCommitTs(8000);
    tracked.noteCommitTs(9000);
    tracked.noteCheckpoint(
      checkpoint({
        nextXid: 8500,
        nextMulti: 30,
        oldestXid: 700,
        oldestMulti: 20,
        oldestCommitTsXid: 8000,
        newestCommitTsXid: 8499,
      }),
      false,
    );
    const {
      nextXid,
      nextMulti,
      nextMultiOffset,
      oldestXid,
      oldestMulti,
      oldestCommitTsXid,
      newestCommitTsXid,
    } = tracked.state;
    assert.ok(nextXid > 9000);
    assert.deepEqual(
      { nextMulti, nextMultiOffset, oldestXid, oldestMulti, oldestCommitTsXid, newestCommitTsXid },
      {
        nextMulti: 41,
        nextMultiOffset: 102,
        oldestXid: 800,
        oldestMulti: 35,
        oldestCommitTsXid: 8000,
        newestCommitTsXid: 9000,
      },
    );
  });

  test("is what a shutdown checkpoint says", () => {
    const tracked = tracker({ nextXid: 1024, oldestXid: 900 });
    tracked.noteXid(9000);
    const record = checkpoint({
      nextXid: 9001,
      nextOid: 30000,
      nextMulti: 7,
      nextMultiOffset: 9,
      oldestXid: 900,
    });
    tracked.noteCheckpoint(record, true);
    assert.deepEqual(tracked.state, record);
  });

  test("stays on its timeline, whichever one the checkpoint's cluster is on", () => {
    const tracked = tracker({});
    const { ThisTimeLineID, PrevTimeLineID } = tracked.state;
    for (const shutdown of [true, false]) {
      tracked.noteCheckpoint(checkpoint({ ThisTimeLineID: 7, PrevTimeLineID: 6 }), shutdown);
      assert.deepEqual([tracked.state.ThisTimeLineID, tracked.state.PrevTimeLineID], [
        ThisTimeLineID,
        PrevTimeLineID,
      ]);
    }
  });
});
