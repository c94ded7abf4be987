import assert from "node:assert/strict";
import { basename } from "node:path";
import { describe, test } from "node:test";
import { INVALID_LSN, type Lsn } from "../../../src/common/lsn.ts";
import { pgVersion } from "../../../src/postgres/versions/find_version.ts";
import { segmentOffset, walFileName } from "../../../src/postgres/wal/page_header.ts";
import { checkWalAtOnce, endOfWritten, type WalDamage } from "../../../src/wal_store/check_wal.ts";
import { WalStore } from "../../../src/wal_store/wal_store.ts";
import { FaultyDisk } from "../../harness/faulty_disk.ts";
import { Random } from "../../harness/random.ts";
import { WalBuilder } from "../../harness/wal_builder.ts";

const SEGMENT = 1 << 20;
const START = (SEGMENT * 2 + 8192 + 256) as Lsn;
const DIR = "/wal";

/** Some 2.5 MiB: small records, some of many pages, one across two segments. */
function someWal(): WalBuilder {
  const builder = new WalBuilder({ startLsn: START, segmentSize: SEGMENT, prev: START - 64 });
  for (let i = 0; builder.lsn < SEGMENT * 4 + SEGMENT / 2; i++) {
    builder.record({ main: new Uint8Array(i % 10 === 0 ? 70_000 : 300).fill(1 + i % 200) });
  }
  return builder;
}

const WAL = someWal();
const BYTES = WAL.bytes.subarray(START - WAL.from);
const END = WAL.records.at(-1)!.endLsn;

async function storeOf(bytes: Uint8Array, disk = new FaultyDisk(new Random(1))): Promise<WalStore> {
  const options = { segmentSize: SEGMENT, disk, startLsn: START, sync: false };
  const store = await WalStore.open(DIR, options);
  store.write(START, bytes, 0, bytes.length);
  await store.close();
  return await WalStore.open(DIR, options);
}

function check(store: WalStore, through: Lsn, endsWithRecord: boolean): readonly WalDamage[] {
  const wholeTo = endsWithRecord ? through : INVALID_LSN;
  return checkWalAtOnce(store, { pg: pgVersion(15), systemId: WAL.systemId, through, wholeTo })
    .damages;
}

function flipped(...lsns: number[]): Uint8Array {
  const bytes = BYTES.slice();
  for (const lsn of lsns) bytes[lsn - START] ^= 4;
  return bytes;
}

describe("a check of WAL at rest", () => {
  test("reads all of sound WAL and finds nothing", async () => {
    const store = await storeOf(BYTES);
    const options = { pg: pgVersion(15), through: END, wholeTo: END };
    assert.deepEqual(checkWalAtOnce(store, options), { bytes: END - START, damages: [] });
    // The last record may be followed by padding.
    assert.ok(endOfWritten(store) <= END && endOfWritten(store) > END - 8);
    assert.deepEqual(check(store, endOfWritten(store), false), []);
  });

  test("finds a bit in any part of a record or a page header, whether the end is known or not", async () => {
    const random = new Random(7);
    const spots = WAL.records.filter((_, i) => i % 900 === 3).map(({ lsn }) => lsn);
    for (const lsn of [...spots, WAL.records.at(-1)!.lsn]) {
      // Length, xl_prev, resource manager, checksum, data.
      for (const offset of [0, 1, 9, 17, 20, 40 + random.int(200)]) {
        const store = await storeOf(flipped(lsn + offset));
        for (const endsWithRecord of [true, false]) {
          const [damage, ...others] = check(store, END, endsWithRecord);
          // Whether a last record is too long or cut short can't be told.
          if (damage === undefined && !endsWithRecord && lsn === WAL.records.at(-1)!.lsn) continue;
          assert.ok(damage !== undefined, `offset ${offset} of the record at ${lsn}`);
          assert.deepEqual(others, []);
        }
      }
    }
    const page = SEGMENT * 3 + 8192 * 5;
    for (const offset of [0, 3, 8, 16]) {
      const store = await storeOf(flipped(page + offset));
      assert.equal(check(store, END, true).length, 1, `offset ${offset} of a page header`);
    }
  });

  test("says which file, where in it, and tells of each damaged segment", async () => {
    const hit = WAL.records.find(({ lsn }) => lsn > SEGMENT * 3 + SEGMENT / 2)!;
    const later = WAL.records.find(({ lsn }) => lsn > SEGMENT * 4 + SEGMENT / 4)!;
    const damages = check(await storeOf(flipped(hit.lsn + 30, later.lsn + 30)), END, true);
    assert.deepEqual(damages.map(({ lsn }) => lsn), [hit.lsn, later.lsn]);
    const file = walFileName(1, hit.lsn, SEGMENT);
    assert.ok(damages[0].what.startsWith(`${DIR}/${file}, offset ${segmentOffset(hit.lsn, SEGMENT)}: `));
    assert.match(damages[0].what, /checksum mismatch/);
  });

  test("takes a page of zeros in the middle for damage, and WAL that is too short", async () => {
    const bytes = BYTES.slice();
    bytes.fill(0, SEGMENT * 3 + 8192 - START, SEGMENT * 3 + 8192 * 2 - START);
    const zeros = await storeOf(bytes);
    assert.equal(check(zeros, END, true).length, 1);
    assert.equal(check(zeros, endOfWritten(zeros), false).length, 1);
    const cut = await storeOf(BYTES.subarray(0, SEGMENT * 3 - START - 1000));
    assert.match(check(cut, END, true)[0].what, /no whole record is there, but the WAL goes to/);
  });

  test("takes a last record that was cut short for the end where it may be that", async () => {
    const random = new Random(3);
    for (let round = 0; round < 12; round++) {
      const store = await storeOf(BYTES.subarray(0, 1 + random.int(BYTES.length - 1)));
      assert.deepEqual(check(store, endOfWritten(store), false), []);
    }
  });

  test("begins behind the record whose beginning was removed", async () => {
    const disk = new FaultyDisk(new Random(1));
    const store = await storeOf(flipped(START + 40, END - 200), disk);
    await store.truncate(END);
    await store.removeBefore((SEGMENT * 3 + 1) as Lsn);
    assert.equal(basename(disk.readdirSync(DIR)[0]), walFileName(1, SEGMENT * 3, SEGMENT));
    assert.deepEqual(check(store, END, true).map(({ lsn }) => lsn > SEGMENT * 4), [true]);
  });
});
