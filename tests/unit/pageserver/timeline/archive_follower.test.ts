/** A follower of an archive takes in no more than its timeline has room for. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { Lsn } from "../../../../src/common/lsn.ts";
import { sleep } from "../../../../src/common/sleep.ts";
import type { SmallFile } from "../../../../src/common/small_file.ts";
import { ArchiveFollower } from "../../../../src/pageserver/timeline/archive_follower.ts";
import type { FollowState } from "../../../../src/pageserver/timeline/follow_state.ts";
import { LayerRoom } from "../../../../src/pageserver/timeline/layer_room.ts";
import type { Timeline } from "../../../../src/pageserver/timeline/timeline.ts";
import { walFileName, XLP_SYSID } from "../../../../src/postgres/wal/page_header.ts";
import { NULL_LOGGER } from "../../../../src/process/log.ts";

const SEGMENT = 1 << 20;
const START = SEGMENT as Lsn;
const SYSTEM = 7_000_000_000_000_000_001n;

/** What the follower needs of a timeline. Its layers fill the disk after the first piece. */
class FullTimeline {
  readonly room = new LayerRoom();
  readonly walSegmentSize = SEGMENT;
  readonly systemIdentifier = SYSTEM;
  readonly commitTimes = { newest: null };
  readonly store = { congested: false };
  position: number = START;

  restartReceiving(): Promise<Lsn> {
    return Promise.resolve(this.position as Lsn);
  }

  receive(at: Lsn, bytes: Uint8Array): undefined {
    this.position = at + bytes.length;
    this.room.setFull(true);
  }

  get congested(): boolean {
    return this.store.congested || this.room.isFull;
  }

  ready(): Promise<void> {
    return this.room.free();
  }

  makeDurable(): Promise<void> {
    return Promise.resolve();
  }

  trimWal(): Promise<void> {
    return Promise.resolve();
  }
}

async function until(isTrue: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !isTrue(); i++) await sleep(10);
}

test("it waits while layers fill the disk, and can be closed meanwhile", async () => {
  const directory = mkdtempSync(join(tmpdir(), "zenith_archive_"));
  try {
    const segment = new Uint8Array(SEGMENT);
    new DataView(segment.buffer).setBigUint64(XLP_SYSID, SYSTEM, true);
    writeFileSync(join(directory, walFileName(1, START, SEGMENT)), segment);
    const timeline = new FullTimeline();
    const location = { path: directory, stanza: null, passphrase: null };
    const state: FollowState = {
      source: { kind: "archive", location },
      slot: null,
      tli: 1,
      maxSlotBytes: 0,
      isStopped: false,
    };
    const follower = new ArchiveFollower(
      timeline as unknown as Timeline,
      location,
      {} as SmallFile<FollowState>,
      state,
      NULL_LOGGER,
    );
    await until(() => timeline.room.isFull);
    await sleep(50);
    const taken = timeline.position;
    assert.ok(taken > START && taken < START + SEGMENT, `${taken - START} bytes were taken in`);
    timeline.room.setFull(false);
    await until(() => timeline.position > taken);
    assert.ok(timeline.position < START + SEGMENT);
    await follower.close("the page server stops");
    assert.equal(follower.status.problem, null);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
