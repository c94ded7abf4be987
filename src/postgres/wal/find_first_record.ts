import type { Lsn } from "../../common/lsn.ts";
import { WalDecoder } from "./decoder.ts";
import { WalRecord } from "./record.ts";

/**
 * The start of the first record at or after `from` in a piece of WAL whose record boundaries are not known
 * (XLogFindNextRecord); undefined when there is no whole record there.
 *
 * @param bytes WAL with page headers, from `bytesLsn` on
 * @param bytesLsn at or before the beginning of the page that holds `from`
 * @param segmentSize wal_segment_size in bytes
 * @throws {WalError} when the WAL is not valid
 */
export function findFirstRecord(
  bytes: Uint8Array,
  bytesLsn: Lsn,
  from: Lsn,
  segmentSize: number,
): Lsn | undefined {
  const decoder = new WalDecoder({ startLsn: from, segmentSize, findFirst: true, zerosAreEnd: true });
  decoder.feed(bytes, bytesLsn);
  const rec = new WalRecord();
  return decoder.next(rec) ? rec.lsn as Lsn : undefined;
}
