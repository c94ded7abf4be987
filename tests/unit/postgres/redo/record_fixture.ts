/** Records made by hand, as a decoder would hand them to redo: in the workspace, their parts at odd addresses. */
import { WalRecord } from "../../../../src/postgres/wal/record.ts";
import { BLCKSZ, PAGE, RECORD, W8 } from "../../../../src/postgres/redo/page/workspace.ts";

/** A struct as the list of its fields: `u16(7)` and so on, joined by {@link bytes}. */
export function u8(...values: number[]): number[] {
  return values;
}

export function u16(...values: number[]): number[] {
  return values.flatMap((value) => [value & 0xff, (value >>> 8) & 0xff]);
}

export function u32(...values: number[]): number[] {
  return values.flatMap((value) => [...u16(value & 0xffff), ...u16(value >>> 16)]);
}

export function f64(value: number): number[] {
  return [...new Uint8Array(new Float64Array([value]).buffer)];
}

export function bytes(...fields: number[][]): Uint8Array {
  return Uint8Array.from(fields.flat());
}

export interface BlockFixture {
  blkno: number;
  data?: Uint8Array;
}

/** The LSN behind every record made here, above 2^32. */
export const END_LSN = 0x3_0000_1238;

/**
 * A record with main data and block references; `undefined` leaves an id out. It is good until the next one is made: they
 * all lie in the same place.
 */
export function makeRecord(
  info: number,
  main: Uint8Array,
  blocks: readonly (BlockFixture | undefined)[],
): WalRecord {
  const rec = new WalRecord();
  let at = RECORD + 25;
  const put = (part: Uint8Array): number => {
    const start = at;
    W8.set(part, start);
    // Whoever reads on finds garbage.
    W8.fill(0xee, start + part.length, start + part.length + 64);
    at = start + part.length + (part.length % 2 === 0 ? 9 : 8);
    return start;
  };
  rec.bytes = W8;
  rec.off = RECORD;
  rec.xl_info = info;
  rec.lsn = END_LSN - 64;
  rec.endLsn = END_LSN;
  rec.mainOff = put(main);
  rec.mainLen = main.length;
  rec.blockCount = blocks.length;
  blocks.forEach((block, id) => {
    if (block === undefined) return;
    const data = block.data ?? new Uint8Array(0);
    rec.blockInUse[id] = 1;
    rec.blkno[id] = block.blkno;
    rec.dataOff[id] = put(data);
    rec.dataLen[id] = data.length;
  });
  return rec;
}

/** A copy of PAGE. */
export function pageBytes(): Uint8Array {
  return W8.slice(PAGE, PAGE + BLCKSZ);
}
