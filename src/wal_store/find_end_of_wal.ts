import type { Lsn } from "../common/lsn.ts";
import { WalDecoder } from "../postgres/wal/decoder.ts";
import { WalError } from "../postgres/wal/error.ts";
import { pgVersion } from "../postgres/versions/find_version.ts";
import { WalRecord } from "../postgres/wal/record.ts";
import type { WalStore } from "./wal_store.ts";

/**
 * Finds the end of the WAL in a store that was just opened: the end of the last record that is
 * whole, has the right checksum and continues the chain from `fromLsn`. The bytes after it are a
 * record that a crash cut short, or remains of the file's earlier use; {@link WalStore.truncate}
 * zeroes them.
 *
 * @param fromLsn a record boundary at or above the store's start that is known to be in the store;
 *   the scan costs the WAL from there
 * @returns a record boundary: `fromLsn` when no record follows
 * @throws {ZenithError} `out_of_range`, `io`
 */
export function findEndOfWal(store: WalStore, fromLsn: Lsn): Lsn {
  if (fromLsn === store.writtenLsn) return fromLsn;
  const decoder = new WalDecoder({
    pg: pgVersion(15),
    startLsn: fromLsn,
    segmentSize: store.segmentSize,
    zerosAreEnd: true,
  });
  const record = new WalRecord();
  let end = fromLsn;
  try {
    for (const { lsn, bytes } of store.iterate(fromLsn, store.writtenLsn)) {
      decoder.feed(bytes, lsn);
      while (decoder.next(record)) end = record.endLsn as Lsn;
      if (decoder.ended) break;
    }
  } catch (error) {
    if (!(error instanceof WalError)) throw error;
  }
  return end;
}
