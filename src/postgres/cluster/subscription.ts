/**
 * Rows of the catalog pg_subscription: FormData_pg_subscription,
 * src/include/catalog/pg_subscription.h.
 */

/** SubscriptionRelationId */
export const PG_SUBSCRIPTION = 6100;

const NAME_BYTES = 64;

/** Where a major has the columns that are read. */
interface Columns {
  readonly name: number;
  readonly enabled: number;
  /** The first of variable length: subconninfo, then subslotname, then subsynccommit. */
  readonly conninfo: number;
}

function columns(major: number): Columns {
  // 15: subskiplsn, subtwophasestate, subdisableonerr. 16: subpasswordrequired, subrunasowner. 17:
  // subfailover.
  const name = major >= 15 ? 16 : 8;
  const enabled = name + NAME_BYTES + 4;
  const flags = major >= 17 ? 8 : major >= 16 ? 7 : major >= 15 ? 5 : 3;
  return { name, enabled, conninfo: enabled + flags };
}

export interface Subscription {
  readonly name: string;
  readonly isEnabled: boolean;
  /** As synchronous_commit has it. */
  readonly synchronousCommit: string;
}

/** @param row the bytes of its columns; null when they make no sense */
export function parseSubscription(major: number, row: DataView): Subscription | null {
  const { name, enabled, conninfo } = columns(major);
  try {
    const afterConninfo = conninfo + varlenaSize(row, conninfo);
    // subslotname may be null: no slot's name begins as a short text does.
    const at = isShortText(row, afterConninfo) ? afterConninfo : afterConninfo + NAME_BYTES;
    if (!isShortText(row, at)) return null;
    return {
      name: textAt(row, name, NAME_BYTES),
      isEnabled: row.getUint8(enabled) !== 0,
      synchronousCommit: textAt(row, at + 1, (row.getUint8(at) >> 1) - 1),
    };
  } catch {
    return null;
  }
}

/** With what comes before it for its alignment. varatt.h */
function varlenaSize(row: DataView, at: number): number {
  const first = row.getUint8(at);
  // VARTAG_ONDISK: a header of two bytes, and struct varatt_external.
  if (first === 1) return 2 + 16;
  if ((first & 1) !== 0) return first >> 1;
  const aligned = (at + 3) & -4;
  return aligned - at + (row.getUint32(aligned, true) >>> 2);
}

/** A text of up to 14 bytes. */
function isShortText(row: DataView, at: number): boolean {
  const first = row.getUint8(at);
  return (first & 1) !== 0 && first < 0x20;
}

function textAt(row: DataView, at: number, length: number): string {
  const bytes = new Uint8Array(row.buffer, row.byteOffset + at, length);
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(bytes.subarray(0, end < 0 ? length : end));
}
