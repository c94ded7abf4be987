import { V15 } from "../../../../src/postgres/versions/v15.ts";
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { cutRecord, NO_BLOCK } from "../../../../src/postgres/wal/cut_record.ts";
import { parseRecord } from "../../../../src/postgres/wal/parse.ts";
import {
  BKPIMAGE_APPLY,
  BKPIMAGE_COMPRESS_LZ4,
  BKPIMAGE_HAS_HOLE,
  WalRecord,
} from "../../../../src/postgres/wal/record.ts";
import { type BlockSpec, encodeRecord, type RecordSpec } from "../../../harness/wal_builder.ts";
import { Random } from "../../../harness/random.ts";

const REL = [1663, 5, 16384] as const;
const OTHER = [1663, 5, 16385] as const;

function parsed(bytes: Uint8Array): WalRecord {
  const rec = new WalRecord();
  parseRecord(rec, bytes, 0, V15);
  return rec;
}

/** Cuts, checks that the result is a record by its own length, and returns it. */
function cut(rec: WalRecord, block: number): WalRecord {
  const out = new Uint8Array(rec.xl_tot_len + 3).fill(0xaa);
  const length = cutRecord(rec, block, out, 3);
  assert.ok(length <= rec.xl_tot_len);
  assert.deepEqual([...out.subarray(0, 3)], [0xaa, 0xaa, 0xaa]);
  return parsed(out.slice(3, 3 + length));
}

function part(rec: WalRecord, off: number, len: number): number[] {
  return [...rec.bytes.subarray(off, off + len)];
}

const dataOf = (rec: WalRecord, i: number) => part(rec, rec.dataOff[i], rec.dataLen[i]);
const mainOf = (rec: WalRecord) => part(rec, rec.mainOff, rec.mainLen);

const SPEC: RecordSpec = {
  rmid: 11,
  info: 0x30,
  xid: 4711,
  origin: 3,
  toplevelXid: 99,
  main: Uint8Array.of(1, 2, 3),
  blocks: [
    {
      id: 0,
      rel: REL,
      blkno: 10,
      data: Uint8Array.of(4, 5),
      image: { bytes: new Uint8Array(8192), info: 0 },
    },
    { id: 1, blkno: 11, willInit: true, data: new Uint8Array(5000).fill(6) },
    { id: 3, rel: OTHER, fork: 2, blkno: 12 },
    { id: 4, rel: REL, blkno: 13, data: Uint8Array.of(7) },
  ],
};

describe("a record cut down to one block", () => {
  test("keeps header, main data, every block reference and that block's data", () => {
    const rec = parsed(encodeRecord(SPEC, 0x5000));
    const result = cut(rec, 0);
    assert.deepEqual([result.xl_xid, result.xl_info, result.xl_rmid, result.xl_prev], [
      4711,
      0x30,
      11,
      0x5000,
    ]);
    assert.deepEqual(mainOf(result), [1, 2, 3]);
    assert.deepEqual(dataOf(result, 0), [4, 5]);
    assert.deepEqual([0, 1, 2, 3, 4].map((i) => result.blockInUse[i]), [1, 1, 0, 1, 1]);
    assert.deepEqual([0, 1, 3, 4].map((i) => result.blkno[i]), [10, 11, 12, 13]);
    assert.deepEqual([0, 1, 3, 4].map((i) => result.relNode[i]), [16384, 16384, 16385, 16384]);
    assert.deepEqual([0, 1, 3, 4].map((i) => result.dataLen[i]), [2, 0, 0, 0]);
    assert.deepEqual([0, 1, 3, 4].map((i) => result.imageLen[i]), [0, 0, 0, 0]);
    assert.equal(result.blockFlags[1] & 0x40, 0x40, "BKPBLOCK_WILL_INIT");
    assert.equal(result.blockFlags[3] & 0x0f, 2, "the fork");
    assert.ok(result.xl_tot_len < 110);
    assert.equal(cut(rec, 1).dataLen[1], 5000);
  });

  test("keeps no block's data where it is for a page that it does not refer to", () => {
    const result = cut(parsed(encodeRecord(SPEC, 0)), NO_BLOCK);
    assert.deepEqual([0, 1, 3, 4].map((i) => result.dataLen[i]), [0, 0, 0, 0]);
    assert.deepEqual(mainOf(result), [1, 2, 3]);
  });

  test("keeps nothing but the image where that is what redo restores", () => {
    const bytes = Uint8Array.from({ length: 700 }, (_, i) => i);
    for (
      const image of [
        { bytes, info: BKPIMAGE_APPLY | BKPIMAGE_HAS_HOLE, holeOff: 300 },
        {
          bytes,
          info: BKPIMAGE_APPLY | BKPIMAGE_HAS_HOLE | BKPIMAGE_COMPRESS_LZ4,
          holeOff: 300,
          holeLen: 77,
        },
        { bytes, info: BKPIMAGE_APPLY | BKPIMAGE_COMPRESS_LZ4 },
      ]
    ) {
      const blocks: BlockSpec[] = [SPEC.blocks![0], { id: 1, blkno: 11, image, data: Uint8Array.of(8) }];
      const rec = parsed(encodeRecord({ ...SPEC, blocks }, 0));
      const result = cut(rec, 1);
      assert.deepEqual(part(result, result.imageOff[1], result.imageLen[1]), [...bytes]);
      assert.deepEqual([result.imageInfo[1], result.holeOff[1]], [image.info, rec.holeOff[1]]);
      assert.equal(result.holeLen[1], rec.holeLen[1]);
      assert.equal(result.relNode[1], 16384);
      assert.deepEqual([result.blockInUse[0], result.mainLen, result.dataLen[1]], [0, 0, 0]);
    }
  });

  test("cut again is the same", () => {
    const once = cut(parsed(encodeRecord(SPEC, 0)), 4);
    assert.deepEqual([...cut(once, 4).bytes], [...once.bytes]);
  });

  test("has the same parts as before, whatever record it was", () => {
    const seed = 77;
    const random = new Random(seed);
    for (let round = 0; round < 500; round++) {
      const blocks: BlockSpec[] = [];
      for (let id = 0; id < 33; id += 1 + random.int(12)) {
        blocks.push({
          id,
          ...(blocks.length === 0 || random.oneIn(3)
            ? { rel: [random.int(3), random.int(3), random.int(3)] }
            : {}),
          fork: random.int(4),
          blkno: random.u32(),
          willInit: random.oneIn(3),
          data: random.bytes(random.int(40)),
        });
      }
      const rec = parsed(encodeRecord({ rmid: 10, main: random.bytes(random.int(600)), blocks }, 0));
      for (const { id } of blocks) {
        const what = `seed ${seed}, round ${round}, block ${id}`;
        const result = cut(rec, id);
        assert.deepEqual(mainOf(result), mainOf(rec), what);
        assert.deepEqual(dataOf(result, id), dataOf(rec, id), what);
        for (const block of blocks) {
          for (const field of ["spcNode", "dbNode", "relNode", "blkno"] as const) {
            assert.equal(result[field][block.id], rec[field][block.id], what);
          }
        }
      }
    }
  });

  test("is not written where there is no room", () => {
    const rec = parsed(encodeRecord(SPEC, 0));
    assert.throws(() => cutRecord(rec, 0, new Uint8Array(rec.xl_tot_len), 1), { kind: "out_of_range" });
  });
});
