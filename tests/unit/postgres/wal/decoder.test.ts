import { V15 } from "../../../../src/postgres/versions/v15.ts";
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { BufferPool } from "../../../../src/common/buffer_pool.ts";
import { type Lsn, parseLsn } from "../../../../src/common/lsn.ts";
import { CHUNK_SIZE, WalDecoder, type WalDecoderOptions } from "../../../../src/postgres/wal/decoder.ts";
import { WalError } from "../../../../src/postgres/wal/error.ts";
import { WalRecord, XLR_RMGR_INFO_MASK } from "../../../../src/postgres/wal/record.ts";
import { XLOG_SWITCH } from "../../../../src/postgres/wal/records/xlog.ts";
import { RM_XLOG_ID } from "../../../../src/postgres/wal/rmgr.ts";
import { type BuiltRecord, sealRecord, WalBuilder } from "../../../harness/wal_builder.ts";

const SEGMENT = 1 << 20;
const PAGE = 8192;
const SHORT_HEADER = 24;
const LONG_HEADER = 40;
/** Header, "long data" id and length: what a record has beside its main data. */
const OVERHEAD = 24 + 5;

interface Seen {
  lsn: number;
  endLsn: number;
  prev: number;
  bytes: Uint8Array;
}

function decoderFor(wal: WalBuilder, options: Partial<WalDecoderOptions> = {}): WalDecoder {
  return new WalDecoder({
    pg: V15,
    startLsn: wal.records[0].lsn,
    segmentSize: wal.segmentSize,
    systemId: wal.systemId,
    ...options,
  });
}

function drain(decoder: WalDecoder, seen: Seen[]): void {
  const rec = new WalRecord();
  while (decoder.next(rec)) {
    seen.push({
      lsn: rec.lsn,
      endLsn: rec.endLsn,
      prev: rec.xl_prev,
      bytes: rec.bytes.subarray(rec.off, rec.off + rec.xl_tot_len),
    });
  }
}

function decodeAll(wal: WalBuilder, options: Partial<WalDecoderOptions> = {}): Seen[] {
  const decoder = decoderFor(wal, options);
  const seen: Seen[] = [];
  decoder.feed(wal.bytes, wal.from);
  drain(decoder, seen);
  return seen;
}

function assertSame(seen: readonly Seen[], built: readonly BuiltRecord[]): void {
  assert.deepEqual(
    seen.map(({ lsn, endLsn, prev }) => ({ lsn, endLsn, prev })),
    built.map(({ lsn, endLsn, prev }) => ({ lsn: lsn as number, endLsn: endLsn as number, prev })),
  );
  for (const [i, record] of seen.entries()) {
    assert.ok(
      Buffer.compare(record.bytes, built[i].bytes) === 0,
      `record ${i} has the bytes that were written`,
    );
  }
}

/** Main data that makes a record of `length` bytes in all. */
function ofLength(length: number, fill = 0x5a): { main: Uint8Array } {
  return { main: new Uint8Array(length - OVERHEAD).fill(fill) };
}

describe("a WAL decoder", () => {
  test("returns every record with its position, its end and its bytes", () => {
    const wal = new WalBuilder({ startLsn: SEGMENT });
    for (let i = 0; i < 300; i++) wal.record({ xid: i, ...ofLength(300 + i * 7, i) });
    assert.equal(wal.records[0].lsn, SEGMENT + LONG_HEADER);
    assertSame(decodeAll(wal), wal.records);
  });

  test("starts in the middle of a page, fed from there or from the page's beginning", () => {
    const wal = new WalBuilder({ startLsn: SEGMENT });
    for (let i = 0; i < 20; i++) wal.record(ofLength(1000));
    const start = wal.records[4];
    const fromPage = decodeAll(wal, { startLsn: start.lsn });
    assertSame(fromPage, wal.records.slice(4));

    const decoder = decoderFor(wal, { startLsn: start.lsn });
    const seen: Seen[] = [];
    decoder.feed(wal.bytes.subarray(start.lsn - wal.from), start.lsn);
    drain(decoder, seen);
    assertSame(seen, wal.records.slice(4));
  });

  test("starts at a page boundary and behind the page's header alike", () => {
    const wal = new WalBuilder({ startLsn: SEGMENT + PAGE });
    wal.record(ofLength(100));
    wal.record(ofLength(100));
    assertSame(decodeAll(wal, { startLsn: (SEGMENT + PAGE) as Lsn }), wal.records);
    assertSame(decodeAll(wal, { startLsn: (SEGMENT + PAGE + SHORT_HEADER) as Lsn }), wal.records);

    const fedBehindHeader = decoderFor(wal);
    const seen: Seen[] = [];
    fedBehindHeader.feed(wal.bytes.subarray(SHORT_HEADER), (SEGMENT + PAGE + SHORT_HEADER) as Lsn);
    drain(fedBehindHeader, seen);
    assertSame(seen, wal.records);
  });

  test("puts a record together that crosses pages, segments, and its own header across a page", () => {
    // 8 and 16 bytes left on the page: the record's header itself is cut.
    for (const left of [8, 16, 24, 32]) {
      const wal = new WalBuilder({ startLsn: 2 * SEGMENT - 2 * PAGE });
      wal.record(ofLength(PAGE - SHORT_HEADER - left));
      assert.equal(wal.lsn % PAGE, PAGE - left);
      wal.record(ofLength(3 * PAGE));
      wal.record(ofLength(64));
      assert.ok(wal.lsn > 2 * SEGMENT);
      assertSame(decodeAll(wal), wal.records);
    }
  });

  test("ends a record at the page boundary itself, and starts the next behind the header", () => {
    const wal = new WalBuilder({ startLsn: SEGMENT });
    const first = wal.record(ofLength(PAGE - LONG_HEADER));
    assert.equal(first.endLsn, SEGMENT + PAGE);
    const decoder = decoderFor(wal);
    const seen: Seen[] = [];
    decoder.feed(wal.bytes, wal.from);
    drain(decoder, seen);
    assert.equal(decoder.endLsn, SEGMENT + PAGE);
    assert.equal(decoder.position, SEGMENT + PAGE + SHORT_HEADER);

    wal.record(ofLength(100));
    decoder.feed(wal.bytes, wal.from);
    drain(decoder, seen);
    assertSame(seen, wal.records);
    assert.equal(seen[1].lsn, SEGMENT + PAGE + SHORT_HEADER);
  });

  test("does not wait for the padding behind a record", () => {
    const wal = new WalBuilder({ startLsn: SEGMENT });
    wal.record(ofLength(61));
    wal.record(ofLength(100));
    const end = wal.records[0].lsn + 61;
    const decoder = decoderFor(wal);
    const seen: Seen[] = [];
    decoder.feed(wal.bytes.subarray(0, end - wal.from), wal.from);
    drain(decoder, seen);
    assert.equal(seen.length, 1);
    assert.equal(decoder.hasPartialRecord, false);
    decoder.feed(wal.bytes.subarray(end - wal.from), end as Lsn);
    drain(decoder, seen);
    assertSame(seen, wal.records);
  });

  test("goes on behind XLOG_SWITCH at the next segment, whose page headers up to there are zeros", () => {
    const wal = new WalBuilder({ startLsn: SEGMENT });
    wal.record(ofLength(500));
    const switched = wal.switchSegment();
    wal.record(ofLength(700));
    assert.equal(switched.endLsn, 2 * SEGMENT);
    assertSame(decodeAll(wal), wal.records);
  });

  test("skips what lies behind XLOG_SWITCH in its segment, even when it looks like WAL", () => {
    const wal = new WalBuilder({ startLsn: SEGMENT });
    wal.record(ofLength(500));
    wal.switchSegment();
    wal.record(ofLength(700));
    wal.bytes.fill(0xff, wal.records[1].lsn + 24 - wal.from, 2 * SEGMENT - wal.from);
    assertSame(decodeAll(wal), wal.records);
  });

  test("takes an XLOG_SWITCH that ends exactly at the segment's end", () => {
    const wal = new WalBuilder({ startLsn: 2 * SEGMENT - PAGE });
    wal.record(ofLength(PAGE - SHORT_HEADER - 24));
    const switched = wal.switchSegment();
    assert.equal(switched.endLsn, 2 * SEGMENT);
    wal.record(ofLength(100));
    assertSame(decodeAll(wal), wal.records);
  });

  test("drops a record that was aborted and overwritten", () => {
    for (const pages of [1, 2, 3]) {
      const wal = new WalBuilder({ startLsn: SEGMENT });
      wal.record(ofLength(500));
      wal.abortedRecord(ofLength(5 * PAGE), pages);
      wal.record(ofLength(100));
      assert.equal(wal.records.length, 3);
      assertSame(decodeAll(wal), wal.records);
    }
  });

  test("drops an aborted record of which only a part of the header was written", () => {
    const wal = new WalBuilder({ startLsn: SEGMENT });
    wal.record(ofLength(PAGE - LONG_HEADER - 8));
    wal.abortedRecord(ofLength(500));
    assertSame(decodeAll(wal), wal.records);
  });

  test("refuses an overwrite that names another record than the aborted one", () => {
    const wal = new WalBuilder({ startLsn: SEGMENT });
    wal.record(ofLength(500));
    wal.abortedRecord(ofLength(5 * PAGE), 1, { rmid: 0, info: 0xd0, main: new Uint8Array(16) });
    assert.throws(() => decodeAll(wal), /OVERWRITE_CONTRECORD names 0x0/);
    const other = new WalBuilder({ startLsn: SEGMENT });
    other.record(ofLength(500));
    other.abortedRecord(ofLength(5 * PAGE), 1, ofLength(100));
    assert.throws(() => decodeAll(other), /expected OVERWRITE_CONTRECORD/);
  });

  test("carries over from one 4 GiB of LSNs to the next", () => {
    const start = parseLsn("2/FFFF0000");
    const wal = new WalBuilder({ startLsn: start, prev: start - 100 });
    for (let i = 0; i < 200; i++) wal.record(ofLength(1000));
    assert.ok(wal.lsn > parseLsn("3/0"));
    assertSame(decodeAll(wal), wal.records);
  });

  test("knows segments from 1 MiB to 1 GiB", () => {
    for (const segmentSize of [1 << 20, 16 << 20, 64 << 20, 1 << 30]) {
      const wal = new WalBuilder({ startLsn: 8 * segmentSize - PAGE, segmentSize });
      for (let i = 0; i < 30; i++) wal.record(ofLength(1001));
      assert.ok(wal.lsn > 8 * segmentSize);
      assertSame(decodeAll(wal), wal.records);
    }
    for (const segmentSize of [0, 1 << 19, (1 << 20) + 1, 3 << 20, 2 ** 31, NaN]) {
      assert.throws(
        () => new WalDecoder({ pg: V15, startLsn: SEGMENT as Lsn, segmentSize }),
        /not a power of two/,
      );
    }
  });

  test("takes records larger than a chunk", () => {
    const wal = new WalBuilder({ startLsn: SEGMENT });
    wal.record(ofLength(100));
    wal.record(ofLength(5 << 20));
    wal.record(ofLength(100));
    assertSame(decodeAll(wal), wal.records);
  });

  test("keeps the bytes of returned records as they are, aligned, while it goes on", () => {
    const wal = new WalBuilder({ startLsn: SEGMENT });
    for (let i = 0; i < 3000; i++) wal.record(ofLength(40 + (i * 37) % 3000, i));
    const decoder = decoderFor(wal);
    const kept: Seen[] = [];
    const rec = new WalRecord();
    for (let at = 0; at < wal.bytes.length; at += 777) {
      decoder.feed(wal.bytes.slice(at, at + 777), (wal.from + at) as Lsn);
      while (decoder.next(rec)) {
        assert.equal((rec.bytes.byteOffset + rec.off) % 8, 0);
        kept.push({
          lsn: rec.lsn,
          endLsn: rec.endLsn,
          prev: rec.xl_prev,
          bytes: rec.bytes.subarray(rec.off, rec.off + rec.xl_tot_len),
        });
      }
    }
    assertSame(kept, wal.records);
  });

  test("says where the next record starts and whether a part of it is there", () => {
    const wal = new WalBuilder({ startLsn: SEGMENT });
    wal.record(ofLength(1000));
    wal.record(ofLength(1000));
    const decoder = decoderFor(wal);
    assert.equal(decoder.position, SEGMENT + LONG_HEADER);
    assert.equal(decoder.lastRecordLsn, undefined);
    const rec = new WalRecord();
    const second = wal.records[1].lsn;
    decoder.feed(wal.bytes.subarray(0, second + 500 - wal.from), wal.from);
    assert.ok(decoder.next(rec));
    assert.ok(!decoder.next(rec));
    assert.equal(decoder.position, second);
    assert.equal(decoder.lastRecordLsn, wal.records[0].lsn);
    assert.equal(decoder.hasPartialRecord, true);
    decoder.feed(wal.bytes, wal.from);
    assert.ok(decoder.next(rec));
    assert.ok(!decoder.next(rec));
    assert.equal(decoder.hasPartialRecord, false);
  });

  test("refuses a gap in what it is fed, and ignores what it has already", () => {
    const wal = new WalBuilder({ startLsn: SEGMENT });
    for (let i = 0; i < 20; i++) wal.record(ofLength(1000));
    const decoder = decoderFor(wal);
    const seen: Seen[] = [];
    decoder.feed(wal.bytes.subarray(0, 5000), wal.from);
    assert.throws(() => decoder.feed(wal.bytes.subarray(5001), (wal.from + 5001) as Lsn), /does not follow/);
    decoder.feed(wal.bytes.subarray(3000), (wal.from + 3000) as Lsn);
    decoder.feed(wal.bytes.subarray(3000), (wal.from + 3000) as Lsn);
    drain(decoder, seen);
    assertSame(seen, wal.records);
  });

  test("gives the same records whatever the pieces it is fed in", () => {
    const wal = new WalBuilder({ startLsn: 2 * SEGMENT - 5 * PAGE });
    for (let i = 0; i < 40; i++) wal.record(ofLength(30 + (i * 997) % 5000, i));
    wal.abortedRecord(ofLength(3 * PAGE), 2);
    for (let i = 0; i < 10; i++) wal.record(ofLength(30 + (i * 997) % 5000, i));
    wal.switchSegment();
    for (let i = 0; i < 10; i++) wal.record(ofLength(30 + (i * 997) % 5000, i));
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 200_000 })), {
          minLength: 1,
          maxLength: 50,
        }),
        (sizes) => {
          const decoder = decoderFor(wal);
          const seen: Seen[] = [];
          let at = 0;
          for (let i = 0; at < wal.bytes.length; i++) {
            const piece = wal.bytes.slice(at, at + sizes[i % sizes.length]);
            decoder.feed(piece, (wal.from + at) as Lsn);
            at += piece.length;
            // Sometimes several pieces before the next look.
            if (i % 3 !== 0 || at >= wal.bytes.length) drain(decoder, seen);
            if (sizes.every((size) => size < 100) && at > 200_000) return true;
          }
          assertSame(seen, wal.records);
          return true;
        },
      ),
      { numRuns: 60 },
    );
  });
});

describe("the search for the first record", () => {
  /** Where the first record at or after `from` starts, in `bytes` from `bytesLsn` on; undefined when there is none. */
  function findFirst(bytes: Uint8Array, bytesLsn: Lsn, from: Lsn): number | undefined {
    const decoder = new WalDecoder({ pg: V15, startLsn: from, segmentSize: SEGMENT, findFirst: true });
    decoder.feed(bytes, bytesLsn);
    const rec = new WalRecord();
    return decoder.next(rec) ? rec.lsn : undefined;
  }

  test("passes over the end of a record that began earlier, on as many pages as it takes", () => {
    const onePage = PAGE - SHORT_HEADER;
    for (const leftover of [1, 8, 100, onePage - 8, onePage, onePage + 1, 3 * onePage, 3 * onePage + 17]) {
      const wal = new WalBuilder({ startLsn: SEGMENT + PAGE, leftover, prev: SEGMENT });
      wal.record(ofLength(100));
      wal.record(ofLength(100));
      assertSame(decodeAll(wal, { startLsn: wal.from, findFirst: true }), wal.records);
    }
  });

  test("finds the first record at or after any position", () => {
    const wal = new WalBuilder({ startLsn: SEGMENT });
    for (let i = 0; i < 40; i++) wal.record(ofLength(50 + i * 61));
    for (let at: number = wal.from; at < wal.from + 3 * PAGE; at += 13) {
      const expected = wal.records.find((record) => record.lsn >= at)!;
      assert.equal(findFirst(wal.bytes, wal.from, at as Lsn), expected.lsn);
    }
    assert.equal(findFirst(wal.bytes, wal.from, wal.lsn), undefined);
  });

  test("takes the record that overwrites an aborted one", () => {
    const wal = new WalBuilder({ startLsn: SEGMENT });
    wal.abortedRecord(ofLength(4 * PAGE), 2);
    wal.record(ofLength(100));
    const fromSecondPage = wal.bytes.subarray(PAGE);
    const secondPage = (SEGMENT + PAGE) as Lsn;
    assert.equal(findFirst(fromSecondPage, secondPage, secondPage), wal.records[0].lsn);
  });
});

describe("zeros", () => {
  test("end the WAL of a file, between records, in a record, and at a page", () => {
    const between = new WalBuilder({ startLsn: SEGMENT });
    between.record(ofLength(1000));
    between.zeros(SEGMENT);
    const atPage = new WalBuilder({ startLsn: SEGMENT });
    atPage.record(ofLength(PAGE - LONG_HEADER));
    atPage.zeros(SEGMENT);
    for (const wal of [between, atPage]) {
      const decoder = decoderFor(wal, { zerosAreEnd: true });
      const seen: Seen[] = [];
      decoder.feed(wal.bytes, wal.from);
      drain(decoder, seen);
      assertSame(seen, wal.records);
      assert.equal(decoder.ended, true);
      assert.equal(decoder.hasPartialRecord, false);
    }

    const cut = new WalBuilder({ startLsn: SEGMENT });
    cut.record(ofLength(1000));
    cut.record(ofLength(2 * PAGE));
    cut.bytes.fill(0, PAGE);
    const decoder = decoderFor(cut, { zerosAreEnd: true });
    const seen: Seen[] = [];
    decoder.feed(cut.bytes, cut.from);
    drain(decoder, seen);
    assertSame(seen, cut.records.slice(0, 1));
    assert.equal(decoder.ended, true);
    assert.equal(decoder.hasPartialRecord, true);
    assert.equal(decoder.position, cut.records[1].lsn);
  });

  test("are an error in a stream", () => {
    const wal = new WalBuilder({ startLsn: SEGMENT });
    wal.record(ofLength(1000));
    wal.zeros(PAGE);
    assert.throws(() => decodeAll(wal), (error) => {
      assert.ok(error instanceof WalError);
      assert.equal(error.lsn, wal.records[0].endLsn);
      assert.match(error.message, /record length 0 is outside/);
      return true;
    });
  });
});

describe("a WAL decoder with a pool of buffers", () => {
  /** Some 6 MB, so that chunks have grown to their full size and follow one another. */
  function longWal(): WalBuilder {
    const wal = new WalBuilder({ startLsn: SEGMENT });
    for (let i = 0; i < 1500; i++) wal.record({ xid: i, ...ofLength(4000 + i % 50, i) });
    return wal;
  }

  test("uses two buffers in turn when nobody keeps records", () => {
    const wal = longWal();
    const decoder = decoderFor(wal, { buffers: new BufferPool(CHUNK_SIZE) });
    decoder.feed(wal.bytes, wal.from);
    const record = new WalRecord();
    const buffers = new Set<Uint8Array>();
    let count = 0;
    while (decoder.next(record)) {
      if (record.bytes.length === CHUNK_SIZE) buffers.add(record.bytes);
      assert.equal(Buffer.compare(recordBytes(record), wal.records[count++].bytes), 0);
    }
    assert.equal(count, wal.records.length);
    assert.equal(buffers.size, 2);
  });

  test("leaves records alone whose buffer somebody has retained", () => {
    const wal = longWal();
    const pool = new BufferPool(CHUNK_SIZE);
    const decoder = decoderFor(wal, { buffers: pool });
    decoder.feed(wal.bytes, wal.from);
    const record = new WalRecord();
    const kept: { bytes: Uint8Array; is: Uint8Array }[] = [];
    const retained = new Set<Uint8Array>();
    for (let i = 0; decoder.next(record); i++) {
      if (i % 100 !== 0) continue;
      if (!retained.has(record.bytes)) pool.retain(record.bytes);
      retained.add(record.bytes);
      kept.push({ bytes: recordBytes(record), is: wal.records[i].bytes });
    }
    assert.ok(retained.size > 5);
    for (const { bytes, is } of kept) assert.equal(Buffer.compare(bytes, is), 0);
  });
});

function recordBytes(record: WalRecord): Uint8Array {
  return record.bytes.subarray(record.off, record.off + record.xl_tot_len);
}

describe("WAL that is not right", () => {
  function threeRecords(): WalBuilder {
    const wal = new WalBuilder({ startLsn: SEGMENT });
    wal.record(ofLength(1000));
    wal.record(ofLength(2 * PAGE));
    wal.record(ofLength(1000));
    return wal;
  }

  function assertFails(
    wal: WalBuilder,
    expected: RegExp,
    options: Partial<WalDecoderOptions> = {},
  ): WalDecoder {
    const decoder = decoderFor(wal, options);
    decoder.feed(wal.bytes, wal.from);
    const rec = new WalRecord();
    let error: unknown;
    try {
      while (decoder.next(rec));
    } catch (caught) {
      error = caught;
    }
    assert.ok(error instanceof WalError, `fails with a WalError: ${String(error)}`);
    assert.equal(error.kind, "corrupt_data");
    assert.match(error.message, expected);
    assert.throws(() => decoder.next(rec), expected, "it does not go on behind the damage");
    return decoder;
  }

  test("a flipped bit in a record", () => {
    const wal = threeRecords();
    wal.bytes[wal.records[1].lsn - wal.from + 3000] ^= 4;
    const decoder = assertFails(wal, /checksum mismatch in a record of 16384 bytes/);
    assert.equal(decoder.position, wal.records[1].lsn);
    assert.equal(decoder.lastRecordLsn, wal.records[0].lsn);
  });

  test("a wrong xl_prev, also of the first record when it is known", () => {
    const wal = new WalBuilder({ startLsn: SEGMENT });
    wal.record(ofLength(100));
    wal.record({ ...ofLength(100), prev: SEGMENT });
    assertFails(wal, /xl_prev is 0\/100000, expected 0\/100028/);
    assertFails(threeRecords(), /xl_prev is 0\/0, expected 0\/5/, { prevLsn: 5 as Lsn });
    const ahead = new WalBuilder({ startLsn: SEGMENT, prev: 2 * SEGMENT });
    ahead.record(ofLength(100));
    assertFails(ahead, /expected an LSN below the record's own/);
  });

  test("page headers: magic, address, flags, system identifier, segment size", () => {
    const damage = (off: number, value: number, expected: RegExp) => {
      const wal = threeRecords();
      wal.bytes[off] = value;
      assertFails(wal, expected);
    };
    damage(0, 0x11, /page magic is 0xd111, expected 0xd110/);
    damage(2, 0x00, /page flags 0x0 can't be here/);
    damage(2, 0x12, /page flags 0x12 can't be here/);
    damage(9, 0x20, /the page says that it is at 0x102000/);
    damage(24, 0x00, /from another database system/);
    damage(34, 0x20, /segment size is 2097152, expected 1048576/);
    damage(37, 0x40, /WAL block size is 16384/);
    damage(PAGE, 0x00, /page magic is 0xd100/);
    damage(PAGE + 2, 0x03, /page flags 0x3 can't be here/);
    damage(2 * PAGE + 4, 0x00, /timeline 0 after timeline 1/);
  });

  test("a record that is not continued, or with another length", () => {
    const notContinued = threeRecords();
    notContinued.bytes[PAGE + 2] = 0;
    assertFails(notContinued, /not continued at 0\/102000/);
    const otherLength = threeRecords();
    otherLength.bytes[PAGE + 16] ^= 8;
    assertFails(otherLength, /bytes are missing, but the page at 0\/102000 continues with/);
    const unexpected = threeRecords();
    const lastPage = 2 * PAGE;
    const decoder = decoderFor(unexpected, { startLsn: (SEGMENT + lastPage) as Lsn });
    decoder.feed(unexpected.bytes.subarray(lastPage), (SEGMENT + lastPage) as Lsn);
    assert.throws(() => decoder.next(new WalRecord()), /a continuation record where a new one should start/);
  });

  test("a length that can't be is refused before its bytes are waited for", () => {
    for (const length of [1, 23, 0x4000_0000, 0xffff_ffff]) {
      const wal = threeRecords();
      const at = wal.records[1].lsn - wal.from;
      new DataView(wal.bytes.buffer).setUint32(at, length, true);
      assertFails(wal, /record length \d+ is outside 24/);
    }
  });

  test("an unknown resource manager", () => {
    const wal = new WalBuilder({ startLsn: SEGMENT });
    wal.record({ rmid: 22 });
    assertFails(wal, /invalid resource manager id 22/);
    const custom = new WalBuilder({ startLsn: SEGMENT });
    custom.record({ rmid: 128 });
    assert.equal(decodeAll(custom).length, 1);
  });

  test("a body that does not add up, under a right checksum", () => {
    const wal = new WalBuilder({ startLsn: SEGMENT });
    wal.record({ body: new Uint8Array([255, 9, 1, 2, 3]) });
    assertFails(wal, /don't add up/);
  });

  test("start positions where no record can start", () => {
    for (const lsn of [0, SEGMENT + 8, SEGMENT + 32, SEGMENT + PAGE + 16, SEGMENT + 44]) {
      assert.throws(
        () => new WalDecoder({ pg: V15, startLsn: lsn as Lsn, segmentSize: SEGMENT }),
        /no WAL record can start/,
      );
    }
  });

  test("any damage at all ends in a WalError or at an end, with nothing made up before it", () => {
    const wal = new WalBuilder({ startLsn: 2 * SEGMENT - 3 * PAGE });
    for (let i = 0; i < 12; i++) wal.record(ofLength(100 + i * 300, i));
    wal.abortedRecord(ofLength(3 * PAGE), 2);
    for (let i = 0; i < 12; i++) wal.record(ofLength(100 + i * 300, i));
    const clean = wal.bytes.slice();
    fc.assert(
      fc.property(
        fc.array(fc.record({ at: fc.nat(clean.length - 1), xor: fc.integer({ min: 1, max: 255 }) }), {
          minLength: 1,
          maxLength: 8,
        }),
        fc.boolean(),
        fc.boolean(),
        (damages, zerosAreEnd, reseal) => {
          const bytes = clean.slice();
          for (const { at, xor } of damages) bytes[at] ^= xor;
          if (reseal) resealWithinPages(bytes, wal);
          const decoder = decoderFor(wal, { zerosAreEnd });
          decoder.feed(bytes, wal.from);
          const rec = new WalRecord();
          let count = 0;
          try {
            while (decoder.next(rec)) {
              count++;
              assert.ok(rec.mainOff + rec.mainLen <= rec.off + rec.xl_tot_len);
            }
          } catch (error) {
            if (!(error instanceof WalError)) throw error;
          }
          assert.ok(count <= wal.records.length);
          // A record that is resealed after the damage may have become a valid XLOG_SWITCH: it reaches to its segment's end.
          const isSwitch = reseal && rec.xl_rmid === RM_XLOG_ID &&
            (rec.xl_info & XLR_RMGR_INFO_MASK) === XLOG_SWITCH;
          const end = isSwitch ? Math.ceil(rec.endLsn / wal.segmentSize) * wal.segmentSize : wal.lsn;
          assert.ok(decoder.position <= end + LONG_HEADER);
        },
      ),
      {
        numRuns: 1500,
        // Damage turned a record into an XLOG_SWITCH.
        examples: [[[{ at: 33360, xor: 96 }, { at: 50, xor: 1 }], false, true]],
      },
    );
  });

  /** Gives damaged records that lie on one page a right checksum, so that the damage is met by what comes after it. */
  function resealWithinPages(bytes: Uint8Array, wal: WalBuilder): void {
    for (const record of wal.records) {
      const at = record.lsn - wal.from;
      if (Math.floor(at / PAGE) === Math.floor((at + record.bytes.length) / PAGE)) {
        sealRecord(bytes.subarray(at, at + record.bytes.length));
      }
    }
  }
});

describe("a decoder that passes over long records", () => {
  const passesOver = (): boolean => true;
  const long = (length: number, fill: number) => ({ rmid: 21, main: new Uint8Array(length).fill(fill) });

  /** Short and long ones in turn; lengths around everything that a buffer may end at. */
  function build(lengths: readonly number[]): WalBuilder {
    const wal = new WalBuilder({ startLsn: 3 * SEGMENT - 5 * PAGE });
    lengths.forEach((length, i) => {
      wal.record(long(length, 1 + i));
      wal.record(ofLength(100 + i * 8, i));
    });
    return wal;
  }

  /** In pieces, each gone when the next one comes. */
  function boundaries(wal: WalBuilder, bytes: Uint8Array, piece: number): [lsn: number, endLsn: number][] {
    const buffers = new BufferPool(CHUNK_SIZE);
    const decoder = decoderFor(wal, { passesOver, buffers });
    const rec = new WalRecord();
    const found: [number, number][] = [];
    const input = new Uint8Array(piece);
    for (let off = 0; off < bytes.length; off += piece) {
      const part = input.subarray(0, Math.min(piece, bytes.length - off));
      part.set(bytes.subarray(off, off + part.length));
      decoder.feed(part, (wal.from + off) as Lsn);
      while (decoder.next(rec)) {
        found.push([rec.lsn, rec.endLsn]);
        assert.ok(rec.bytes.length <= CHUNK_SIZE, "no record had a buffer of its own");
        if (rec.isWhole) assert.ok(rec.off + rec.xl_tot_len <= rec.bytes.length);
        else assert.equal(rec.xl_rmid, 21);
      }
    }
    return found;
  }

  test("finds the same records as one that keeps them, in a buffer of always the same size", () => {
    const lengths = [1, 131_000, 131_100, CHUNK_SIZE - 30, CHUNK_SIZE, 700_001, 5_000_003, 140_000, 3];
    const wal = build(lengths);
    const expected = wal.records.map(({ lsn, endLsn }) => [lsn, endLsn]);
    for (const piece of [4099, 65_536, wal.bytes.length]) {
      assert.deepEqual(boundaries(wal, wal.bytes, piece), expected, `in pieces of ${piece}`);
    }
    assertSame(decodeAll(wal), wal.records);
  });

  test("finds any bit that is wrong in one", () => {
    const wal = build([900_000]);
    const clean = wal.bytes;
    const first = wal.records[0].lsn - wal.from;
    fc.assert(
      fc.property(fc.nat(900_000), fc.nat(7), fc.constantFrom(5000, 65_536), (at, bit, piece) => {
        const inPage = (first + at) % PAGE;
        // A page header ends with padding, and XLP_BKP_REMOVABLE may be set on any page: PostgreSQL checks neither.
        const isPadding = inPage >= 20 && inPage < 24;
        fc.pre(!isPadding && !(inPage === 2 && bit === 2));
        const bytes = clean.slice();
        bytes[first + at] ^= 1 << bit;
        assert.throws(() => boundaries(wal, bytes, piece), WalError);
      }),
      { numRuns: 60, examples: [[4, 0, 5000], [30, 1, 5000], [2100, 1, 5000], [900_000, 0, 5000]] },
    );
  });

  test("drops one that was aborted and overwritten in its middle", () => {
    const wal = new WalBuilder({ startLsn: 2 * SEGMENT - 3 * PAGE });
    wal.record(ofLength(100));
    wal.abortedRecord(long(4_000_000, 7), 100);
    wal.record(long(600_000, 8));
    wal.record(ofLength(100));
    const expected = wal.records.map(({ lsn, endLsn }) => [lsn, endLsn]);
    for (const piece of [3000, 65_536]) assert.deepEqual(boundaries(wal, wal.bytes, piece), expected);
  });

  test("keeps whole what it was not told to pass over", () => {
    const wal = build([800_000]);
    assertSame(decodeAll(wal, { passesOver: (rmid) => rmid !== 21 }), wal.records);
  });
});
