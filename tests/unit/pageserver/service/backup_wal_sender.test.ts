/** WAL that is removed before a reader without a slot has come to it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Lsn } from "../../../../src/common/lsn.ts";
import type { CopyBoth } from "../../../../src/pgwire/copy_both.ts";
import type { Session } from "../../../../src/pgwire/session.ts";
import { BackupWalSender } from "../../../../src/pageserver/service/backup_wal_sender.ts";
import type { TenantTimelines } from "../../../../src/pageserver/tenant/timelines.ts";
import type { Timeline } from "../../../../src/pageserver/timeline/timeline.ts";
import { pgVersion } from "../../../../src/postgres/versions/find_version.ts";

const SEGMENT = 1 << 20;
const START = SEGMENT as Lsn;
const END = 4 * SEGMENT;

test("ends the stream instead of being made up", async () => {
  const opened: number[] = [];
  const wal = {
    startLsn: START as number,
    writtenLsn: END,
    segmentSize: SEGMENT,
    isFromStart: false,
    openSegment: (start: number) => {
      opened.push(start);
      const readSync = (into: Uint8Array, off: number, len: number) => into.fill(7, off, off + len);
      return start < wal.startLsn ? null : { path: "segment", readSync, closeSync() {} };
    },
  };
  const timeline = {
    wal,
    walSegmentSize: SEGMENT,
    position: END,
    pg: pgVersion(17),
    systemIdentifier: 1n,
    ancestorId: null,
    assertPresent() {},
    makeDurable: () => Promise.resolve(END),
  };
  let sentBytes = 0;
  const buffer = Buffer.alloc(SEGMENT);
  const copy = {
    sending: true,
    congested: true,
    buffer,
    reserve: (len: number) => {
      sentBytes += len - 25;
      return 0;
    },
    drained: () => {
      // The reader is slow. Meanwhile the page server has put all of this into layers.
      wal.startLsn = 3 * SEGMENT;
      assert.equal(buffer[25], 7);
      return Promise.resolve();
    },
    run: () => new Promise<void>(() => {}),
  } as unknown as CopyBoth;
  const session = { copyBoth: () => copy, signal: new AbortController().signal } as unknown as Session;
  const sender = new BackupWalSender(
    {} as TenantTimelines,
    timeline as unknown as Timeline,
    { startLsn: START, tli: undefined },
    undefined,
  );
  await assert.rejects(sender.run(session), {
    kind: "out_of_range",
    message: /WAL from 0\/200000 on is not here/,
  });
  // What was open is sent to its end.
  assert.equal(sentBytes, SEGMENT);
  assert.deepEqual(opened, [START]);
});
