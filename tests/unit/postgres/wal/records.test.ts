import { V15 } from "../../../../src/postgres/versions/v15.ts";
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { restoreBlockImage } from "../../../../src/postgres/wal/block_image.ts";
import { WalError } from "../../../../src/postgres/wal/error.ts";
import { decompressLz4 } from "../../../../src/postgres/wal/lz4.ts";
import { parseRecord } from "../../../../src/postgres/wal/parse.ts";
import { decompressPglz } from "../../../../src/postgres/wal/pglz.ts";
import { WalRecord } from "../../../../src/postgres/wal/record.ts";
import { parseMultixactCreate } from "../../../../src/postgres/wal/records/multixact.ts";
import { parseRelmapUpdate } from "../../../../src/postgres/wal/records/relmap.ts";
import { parseReploriginSet } from "../../../../src/postgres/wal/records/replorigin.ts";
import { parseTblspcCreate } from "../../../../src/postgres/wal/records/tblspc.ts";
import { recordTypeName, rmgrIdByName, rmgrName } from "../../../../src/postgres/wal/rmgr.ts";
import { parseAbort, parseCommit } from "../../../../src/postgres/wal/xact.ts";
import { encodeRecord, type RecordSpec } from "../../../harness/wal_builder.ts";

const REL = [1663, 5, 16384] as const;
const HAS_HOLE = 1;
const APPLY = 2;
const PGLZ = 4;
const LZ4 = 8;
const ZSTD = 16;

function parsed(spec: RecordSpec): WalRecord {
  const rec = new WalRecord();
  // Not at the beginning of its buffer, and with something behind it.
  const bytes = encodeRecord(spec, 0x1_0000_0020);
  const buffer = new Uint8Array(bytes.length + 48).fill(0xff);
  buffer.set(bytes, 16);
  parseRecord(rec, buffer, 16, V15);
  return rec;
}

function u32s(...values: number[]): Uint8Array {
  return new Uint8Array(new Uint32Array(values).buffer);
}

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

describe("a parsed record", () => {
  test("tells header, blocks, data, images, origin and main data", () => {
    const image = new Uint8Array(8192).fill(7);
    const rec = parsed({
      rmid: 10,
      info: 0x80,
      xid: 0xffff_fff0,
      origin: 3,
      toplevelXid: 77,
      main: new Uint8Array([1, 2, 3]),
      blocks: [
        { id: 0, rel: REL, blkno: 9, data: new Uint8Array([4, 5]), willInit: true },
        { id: 2, blkno: 0xffff_fffe, fork: 2, image: { bytes: image, info: APPLY } },
      ],
    });
    assert.equal(rec.xl_xid, 0xffff_fff0);
    assert.equal(rec.xl_prev, 0x1_0000_0020);
    assert.equal(rec.xl_rmid, 10);
    assert.equal(rec.xl_info, 0x80);
    assert.equal(rec.originId, 3);
    assert.equal(rec.toplevelXid, 77);
    assert.equal(rec.blockCount, 3);
    assert.deepEqual([...rec.blockInUse.subarray(0, 3)], [1, 0, 1]);
    assert.deepEqual(
      [rec.spcNode[2], rec.dbNode[2], rec.relNode[2]],
      [...REL],
      "the relation of the block before",
    );
    assert.equal(rec.blkno[2], 0xffff_fffe);
    assert.equal(rec.blockFlags[0] & 0x40, 0x40);
    assert.equal(rec.blockFlags[2] & 0x0f, 2);
    assert.deepEqual([...rec.bytes.subarray(rec.dataOff[0], rec.dataOff[0] + rec.dataLen[0])], [4, 5]);
    assert.equal(rec.bytes[rec.imageOff[2]], 7);
    assert.equal(rec.imageLen[2], 8192);
    assert.deepEqual([...rec.bytes.subarray(rec.mainOff, rec.mainOff + rec.mainLen)], [1, 2, 3]);
  });

  test("keeps nothing of the record before", () => {
    const rec = new WalRecord();
    const full = encodeRecord({
      main: new Uint8Array(300),
      origin: 1,
      toplevelXid: 1,
      blocks: [{
        id: 0,
        rel: REL,
        blkno: 1,
        image: { bytes: new Uint8Array(100), info: HAS_HOLE | APPLY, holeOff: 8 },
      }],
    }, 0);
    const bare = encodeRecord({ blocks: [{ id: 0, rel: REL, blkno: 1 }] }, 0);
    parseRecord(rec, full, 0, V15);
    assert.equal(rec.imageLen[0], 100);
    assert.equal(rec.holeLen[0], 8092);
    parseRecord(rec, bare, 0, V15);
    assert.deepEqual(
      [rec.mainLen, rec.originId, rec.toplevelXid, rec.imageLen[0], rec.imageInfo[0], rec.holeLen[0]],
      [0, 0, 0, 0, 0, 0],
    );
    parseRecord(rec, encodeRecord({}, 0), 0, V15);
    assert.equal(rec.blockCount, 0);
  });

  test("is refused when its parts contradict each other", () => {
    const image = (bytes: number, info: number, holeOff = 0, holeLen = 0): RecordSpec => ({
      blocks: [{
        id: 0,
        rel: REL,
        blkno: 0,
        image: { bytes: new Uint8Array(bytes), info, holeOff, holeLen },
      }],
    });
    const bad: [RecordSpec, RegExp][] = [
      [{ blocks: [{ id: 0, blkno: 1 }] }, /there is none/],
      [{ blocks: [{ id: 1, rel: REL, blkno: 1 }, { id: 1, blkno: 2 }] }, /block id 1 is out of order/],
      [{ blocks: [{ id: 0, rel: REL, blkno: 1, fork: 4 }] }, /names fork 4/],
      [{ body: new Uint8Array([40]) }, /invalid block id 40/],
      [{ body: new Uint8Array([0, 0x20, 0, 0, 1, 2, 3]) }, /flags 0x20 but 0 bytes of data/],
      [{ body: new Uint8Array([255, 3, 1, 2]) }, /don't add up/],
      [{ body: new Uint8Array([255, 1, 1, 2]) }, /don't add up/],
      [{ body: new Uint8Array([254, 255, 255, 255, 255]) }, /don't add up/],
      [image(8000, APPLY), /image of block 0/],
      [image(8000, APPLY | HAS_HOLE), /image of block 0/],
      [image(8192, APPLY | HAS_HOLE, 8), /image of block 0/],
      [image(8193, APPLY | HAS_HOLE, 8), /image of block 0/],
      [image(8000, APPLY | HAS_HOLE, 8100), /image of block 0/],
      [image(8192, APPLY | LZ4), /image of block 0/],
      [image(100, APPLY | LZ4 | HAS_HOLE, 8, 8190), /image of block 0/],
    ];
    for (const [spec, expected] of bad) {
      assert.throws(() => parsed(spec), (error) => error instanceof WalError && expected.test(error.message));
    }
  });

  test("is never read beyond its length, whatever its bytes are", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 0, maxLength: 200 }), (body) => {
        const bytes = encodeRecord({ body }, 0);
        const alone = new WalRecord();
        const withMore = new WalRecord();
        const longer = new Uint8Array(bytes.length + 100).fill(0x11);
        longer.set(bytes);
        const outcome = (rec: WalRecord, from: Uint8Array) => {
          try {
            parseRecord(rec, from, 0, V15);
            assert.equal(rec.mainOff + rec.mainLen, bytes.length);
            return "parsed";
          } catch (error) {
            if (!(error instanceof WalError)) throw error;
            return error.message;
          }
        };
        assert.equal(outcome(alone, bytes), outcome(withMore, longer));
      }),
      { numRuns: 2000 },
    );
  });
});

describe("a page image", () => {
  const page = Uint8Array.from({ length: 8192 }, (_, i) => i < 3000 || i >= 5000 ? (i * 7) & 0xff : 0);

  function restored(bytes: Uint8Array, info: number, holeOff = 0, holeLen = 0): Uint8Array {
    const rec = parsed({ blocks: [{ id: 0, rel: REL, blkno: 0, image: { bytes, info, holeOff, holeLen } }] });
    const dst = new Uint8Array(3 * 8192).fill(0xaa);
    restoreBlockImage(rec, 0, dst, 8192);
    assert.ok(dst.subarray(0, 8192).every((byte) => byte === 0xaa), "nothing is written before the page");
    assert.ok(dst.subarray(2 * 8192).every((byte) => byte === 0xaa), "nothing is written behind the page");
    return dst.slice(8192, 2 * 8192);
  }

  test("is restored with its hole, packed or not", () => {
    const holed = joined(page.subarray(0, 3000), page.subarray(5000));
    assert.deepEqual(restored(page, APPLY), page);
    assert.deepEqual(restored(holed, APPLY | HAS_HOLE, 3000), page);
    assert.deepEqual(restored(literalLz4(holed), APPLY | HAS_HOLE | LZ4, 3000, 2000), page);
    assert.deepEqual(restored(literalPglz(holed), APPLY | HAS_HOLE | PGLZ, 3000, 2000), page);
    const zstd = new Uint8Array(zstdCompressSync(holed));
    assert.deepEqual(restored(zstd, APPLY | HAS_HOLE | ZSTD, 3000, 2000), page);
    const whole = new Uint8Array(zstdCompressSync(page));
    assert.deepEqual(restored(whole, APPLY | ZSTD), page);
  });

  test("that does not unpack to the page's size is refused", () => {
    const small = new Uint8Array(100);
    for (const info of [LZ4, PGLZ, ZSTD]) {
      const packed = info === LZ4
        ? literalLz4(small)
        : info === PGLZ
        ? literalPglz(small)
        : new Uint8Array(zstdCompressSync(small));
      assert.throws(() => restored(packed, APPLY | info), WalError);
      assert.throws(() => restored(new Uint8Array([1, 2, 3]), APPLY | info), WalError);
    }
    assert.throws(
      () => restored(new Uint8Array(zstdCompressSync(new Uint8Array(1 << 24))), APPLY | ZSTD),
      WalError,
    );
    assert.throws(() => restored(small, APPLY | LZ4 | PGLZ), /compressed in an unknown way/);
  });
});

/** An LZ4 block of literals only. */
function literalLz4(bytes: Uint8Array): Uint8Array {
  const lengths: number[] = [];
  if (bytes.length < 15) return joined(new Uint8Array([bytes.length << 4]), bytes);
  let left = bytes.length - 15;
  for (; left >= 255; left -= 255) lengths.push(255);
  return joined(new Uint8Array([0xf0, ...lengths, left]), bytes);
}

/** pglz with runs of one byte as matches, else literals. */
function literalPglz(bytes: Uint8Array): Uint8Array {
  const out: number[] = [];
  let at = 0;
  while (at < bytes.length) {
    const control = out.length;
    out.push(0);
    for (let item = 0; item < 8 && at < bytes.length; item++) {
      let run = 0;
      while (at > 0 && run < 273 && at + run < bytes.length && bytes[at + run] === bytes[at - 1]) run++;
      if (run < 3) {
        out.push(bytes[at++]);
        continue;
      }
      out[control] |= 1 << item;
      const length = Math.min(run, 18) - 3;
      out.push(length, 1);
      if (length === 15) out.push(run - 18);
      at += run;
    }
  }
  return new Uint8Array(out);
}

describe("decompression", () => {
  test("LZ4: literals, matches that overlap themselves, long lengths", () => {
    // "ab", then 20 bytes from 2 back, then "!" as the last literal.
    const block = new Uint8Array([0x2f, 0x61, 0x62, 2, 0, 1, 0x10, 0x21]);
    const out = new Uint8Array(23);
    assert.ok(decompressLz4(block, 0, block.length, out, 0, 23));
    assert.equal(new TextDecoder().decode(out), "ab".repeat(11) + "!");
    for (const size of [22, 24]) {
      assert.ok(!decompressLz4(block, 0, block.length, new Uint8Array(24), 0, size));
    }
    const farMatch = new Uint8Array([0x10, 0x61, 2, 0, 0x10, 0x21]);
    assert.ok(!decompressLz4(farMatch, 0, farMatch.length, out, 0, 6), "a match from before the beginning");
  });

  test("pglz: literals, matches that overlap themselves, long lengths", () => {
    // "ab", then 20 bytes from 2 back: length 18 and 2 more.
    const block = new Uint8Array([0b100, 0x61, 0x62, 0x0f, 2, 2]);
    const out = new Uint8Array(22);
    assert.ok(decompressPglz(block, 0, block.length, out, 0, 22));
    assert.equal(new TextDecoder().decode(out), "ab".repeat(11));
    assert.ok(!decompressPglz(block, 0, block.length, new Uint8Array(30), 0, 23));
    const farMatch = new Uint8Array([0b10, 0x61, 0x00, 2]);
    assert.ok(!decompressPglz(farMatch, 0, farMatch.length, out, 0, 4));
  });

  test("neither reads nor writes outside its ranges, whatever the bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(400), (bytes, size) => {
        for (const decompress of [decompressLz4, decompressPglz]) {
          const out = new Uint8Array(size + 32).fill(0xcc);
          const first = decompress(bytes, 0, bytes.length, out, 16, size);
          assert.ok(out.subarray(0, 16).every((byte) => byte === 0xcc));
          assert.ok(out.subarray(size + 16).every((byte) => byte === 0xcc));
          const surrounded = joined(new Uint8Array(5).fill(1), bytes, new Uint8Array(50).fill(2));
          const again = new Uint8Array(size);
          assert.equal(decompress(surrounded, 5, bytes.length, again, 0, size), first);
          if (first) assert.deepEqual(again, out.slice(16, size + 16));
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe("main data", () => {
  const time = u32s(0, 100_000);

  test("of a commit with everything", () => {
    const main = joined(
      time,
      u32s(0b1_1011_1111, 5, 1663),
      u32s(2, 801, 802),
      u32s(1, 1663, 5, 16384),
      u32s(1, 2, 5, 16384),
      u32s(1, 0, 0, 0, 0),
      u32s(900),
      new TextEncoder().encode("gid\0"),
      u32s(7, 1, 5, 0),
    );
    const commit = parseCommit(parsed({ rmid: 1, info: 0xb0, main }), V15);
    assert.deepEqual(commit, {
      xact_time: 100_000 * 2 ** 32,
      xinfo: 0b1_1011_1111,
      xid: 900,
      dbId: 5,
      tsId: 1663,
      subxacts: [801, 802],
      xnodes: [{ spcNode: 1663, dbNode: 5, relNode: 16384 }],
      stats: [{ kind: 2, dboid: 5, objid: 16384n }],
      nmsgs: 1,
      twophase_xid: 900,
      twophase_gid: "gid",
      origin_lsn: 0x1_0000_0007n,
      origin_timestamp: 5,
    });
  });

  test("of an abort has no invalidations, and of a plain commit only the time", () => {
    const abort = parseAbort(
      parsed({ rmid: 1, info: 0xa0, xid: 7, main: joined(time, u32s(0b1010, 1, 801)) }),
      V15,
    );
    assert.deepEqual([abort.subxacts, abort.nmsgs, abort.xid], [[801], 0, 7]);
    const commit = parseCommit(parsed({ rmid: 1, info: 0, xid: 7, main: time }), V15);
    assert.deepEqual([commit.xid, commit.xinfo, commit.subxacts], [7, 0, []]);
  });

  test("of other records", () => {
    assert.deepEqual(parseMultixactCreate(parsed({ main: u32s(1, 2, 2, 700, 0, 701, 5) })), {
      mid: 1,
      moff: 2,
      members: [{ xid: 700, status: 0 }, { xid: 701, status: 5 }],
    });
    assert.deepEqual(parseReploriginSet(parsed({ main: u32s(0xffff_ffff, 0xffff_ffff, 0x0001_0003, 0) })), {
      remote_lsn: 0xffff_ffff_ffff_ffffn,
      node_id: 3,
      force: true,
    });
    const location = new TextEncoder().encode("/mnt/täbles\0");
    assert.deepEqual(parseTblspcCreate(parsed({ main: joined(u32s(16390), location) })), {
      ts_id: 16390,
      ts_path: "/mnt/täbles",
    });
  });

  test("that is cut anywhere, or counts what is not there, is refused", () => {
    const full = joined(time, u32s(0b111, 5, 1663, 2, 801, 802, 1, 1663, 5, 16384));
    parseCommit(parsed({ info: 0x80, main: full }), V15);
    for (let length = 0; length < full.length; length++) {
      assert.throws(() => parseCommit(parsed({ info: 0x80, main: full.slice(0, length) }), V15), WalError);
    }
    for (const count of [0xffff_ffff, 0x7fff_ffff, 3]) {
      assert.throws(
        () => parseCommit(parsed({ info: 0x80, main: joined(time, u32s(2, count, 1, 2)) }), V15),
        WalError,
      );
      assert.throws(() => parseMultixactCreate(parsed({ main: u32s(1, 2, count, 700, 0) })), WalError);
      assert.throws(() => parseRelmapUpdate(parsed({ main: u32s(1, 2, count * 4) }), V15), WalError);
    }
    assert.throws(
      () => parseTblspcCreate(parsed({ main: joined(u32s(1), new Uint8Array([65, 66])) })),
      WalError,
    );
  });

  test("is refused or read, whatever the bytes, without an endless loop or a huge array", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (main) => {
        const rec = parsed({ info: 0x80, main });
        for (const parse of [parseCommit, parseAbort, parseMultixactCreate]) {
          try {
            parse(rec, V15);
          } catch (error) {
            if (!(error instanceof WalError)) throw error;
          }
        }
      }),
      { numRuns: 1000 },
    );
  });
});

describe("names", () => {
  test("are pg_waldump's", () => {
    assert.equal(rmgrName(10), "Heap");
    assert.equal(rmgrName(130), "custom130");
    assert.equal(recordTypeName(V15, 10, 0xc7), "HOT_UPDATE+INIT");
    assert.equal(recordTypeName(V15, 1, 0x80), "COMMIT");
    assert.equal(recordTypeName(V15, 1, 0xe0), "INVALIDATION");
    assert.equal(recordTypeName(V15, 20, 0x30), "Generic");
    assert.equal(recordTypeName(V15, 0, 0xc0), "UNKNOWN (c0)");
    assert.equal(recordTypeName(V15, 130, 0x10), "UNKNOWN (10)");
    assert.equal(rmgrIdByName("transaction"), 1);
    assert.equal(rmgrIdByName("custom130"), 130);
    assert.equal(rmgrIdByName("custom999"), undefined);
    assert.equal(rmgrIdByName("nothing"), undefined);
  });
});
