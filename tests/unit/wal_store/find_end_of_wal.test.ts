import { afterEach, beforeEach, describe, test } from "node:test";
import assert from "node:assert/strict";
import { mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nodeDisk } from "../../../src/common/disk.ts";
import type { Lsn } from "../../../src/common/lsn.ts";
import { findEndOfWal } from "../../../src/wal_store/find_end_of_wal.ts";
import { WalStore } from "../../../src/wal_store/wal_store.ts";
import { WalBuilder } from "../../harness/wal_builder.ts";
import { V15 } from "../../../src/postgres/versions/v15.ts";

const SEGMENT = 1 << 20;
const START = (SEGMENT + 4096) as Lsn;

/** A run of records, each of the given number of bytes or a little more, none of which is zero at its end. */
function records(lengths: readonly number[]): { bytes: Uint8Array; ends: Lsn[]; unpaddedEnds: number[] } {
  const builder = new WalBuilder({ startLsn: START, segmentSize: SEGMENT, prev: START - 64 });
  const ends: Lsn[] = [];
  const unpaddedEnds: number[] = [];
  for (const length of lengths) {
    const record = builder.record({ main: new Uint8Array(length - 26).fill(0xa5) });
    ends.push(record.endLsn);
    unpaddedEnds.push(record.endLsn - (8 - record.bytes.length % 8) % 8);
  }
  return { bytes: builder.bytes.slice(START - builder.from), ends, unpaddedEnds };
}

describe("findEndOfWal", () => {
  let dir = "";
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "zenith-end-of-wal-"));
  });
  afterEach(() => {
    rmSync(dir, { recursive: true });
  });

  function open(): Promise<WalStore> {
    return WalStore.open(dir, { segmentSize: SEGMENT, disk: nodeDisk, startLsn: START });
  }

  /** Writes `bytes` at START and opens the store again, as after a crash. */
  async function reopenWith(bytes: Uint8Array): Promise<WalStore> {
    const store = await open();
    store.write(START, bytes, 0, bytes.length);
    await store.sync();
    await store.close();
    return await open();
  }

  test("is the start when there is no record", async () => {
    const empty = await open();
    assert.equal(await findEndOfWal(V15, empty, START), START);
    const store = await reopenWith(new Uint8Array(100));
    assert.equal(await findEndOfWal(V15, store, START), START);
    await store.close();
  });

  test("is the end of the last record, over pages and segments, from any record boundary", async () => {
    const wal = records(Array.from({ length: 300 }, (_, i) => 40 + (i * 997) % 9000));
    const store = await reopenWith(wal.bytes);
    const last = wal.ends[wal.ends.length - 1];
    assert.ok(last > 2 * SEGMENT);
    assert.equal(await findEndOfWal(V15, store, START), last);
    assert.equal(await findEndOfWal(V15, store, wal.ends[wal.ends.length - 3]), last);
    assert.equal(await findEndOfWal(V15, store, last), last);
    await store.close();
  });

  test("wherever WAL was cut, it is the end of the last record that is whole", async () => {
    const wal = records([60, 9000, 61, 4000, 34]);
    for (let length = 0; length < wal.bytes.length; length += 37) {
      rmSync(dir, { recursive: true });
      const store = await reopenWith(wal.bytes.subarray(0, length));
      const whole = wal.unpaddedEnds.filter((end) => end <= START + length).length;
      assert.equal(
        await findEndOfWal(V15, store, START),
        whole === 0 ? START : wal.ends[whole - 1],
        `after ${length} bytes`,
      );
      await store.close();
    }
  });

  test("a valid record behind a damaged one does not count", async () => {
    const wal = records([200, 200, 200, 200, 200]);
    wal.bytes[2 * 200 + 100] ^= 1;
    const store = await reopenWith(wal.bytes);
    assert.equal(await findEndOfWal(V15, store, START), wal.ends[1]);
    await store.close();
  });

  test("after cutting there, remains of an earlier life can't be taken for what follows", async () => {
    const wal = records([200, 200, 200, 200, 200]);
    const third = wal.bytes.slice(2 * 200, 3 * 200);
    wal.bytes[2 * 200 + 100] ^= 1;
    const store = await reopenWith(wal.bytes);
    await store.truncate(await findEndOfWal(V15, store, START));
    // The damaged record is written again, exactly as it was: what came after it must be gone.
    store.write(store.writtenLsn, third, 0, third.length);
    await store.sync();
    await store.close();
    const reopened = await open();
    assert.equal(await findEndOfWal(V15, reopened, START), wal.ends[2]);
    await reopened.close();
  });

  test("a file with anything in it gives an end, never an error", async () => {
    const store = await open();
    store.write(START, new Uint8Array(8), 0, 8);
    await store.close();
    const fd = openSync(join(dir, "000000010000000000000001"), "r+");
    const noise = new Uint8Array(SEGMENT - 4096);
    let state = 12345;
    for (let i = 0; i < noise.length; i++) {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      noise[i] = state >>> 16;
    }
    writeSync(fd, noise, 0, noise.length, 4096);
    const reopened = await open();
    assert.equal(await findEndOfWal(V15, reopened, START), START);
    await reopened.close();
  });
});
