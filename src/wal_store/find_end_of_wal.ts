/** Finds where the WAL in a store ends: after the last record that is whole and valid. */
import { nextTurn } from "../common/event_loop.ts";
import type { Lsn } from "../common/lsn.ts";
import { WalDecoder } from "../postgres/wal/decoder.ts";
import { WalError } from "../postgres/wal/error.ts";
import type { PgVersion } from "../postgres/versions/pg_version.ts";
import { WalRecord } from "../postgres/wal/record.ts";
import type { WalStore } from "./wal_store.ts";

/** After this much, other work gets its turn. */
const PAUSE_EVERY_BYTES = 8 << 20;

/**
 * Finds the end of the WAL in a store that was just opened: the end of the last record that is
 * whole, has the right checksum and continues the chain from `fromLsn`. The bytes after it belong
 * to a record that a crash cut short, or remain from an earlier use of the file.
 * {@link WalStore.truncate} zeroes them.
 *
 * @param fromLsn a record boundary at or above the store's start that is known to be in the store.
 *   The scan reads all WAL from there
 * @returns a record boundary: `fromLsn` when no record follows
 * @throws {ZenithError} `out_of_range`, `io`
 */
export async function findEndOfWal(pg: PgVersion, store: WalStore, fromLsn: Lsn): Promise<Lsn> {
  if (fromLsn === store.writtenLsn) return fromLsn;
  const decoder = new WalDecoder({
    pg,
    startLsn: fromLsn,
    segmentSize: store.segmentSize,
    zerosAreEnd: true,
    passesOver: () => true,
  });
  const record = new WalRecord();
  let end = fromLsn;
  let pausedAt = fromLsn;
  try {
    for (const { lsn, bytes } of store.iterate(fromLsn, store.writtenLsn)) {
      decoder.feed(bytes, lsn);
      while (decoder.next(record)) end = record.endLsn as Lsn;
      if (decoder.ended) break;
      // A single record can be up to a gigabyte.
      if (lsn - pausedAt < PAUSE_EVERY_BYTES) continue;
      pausedAt = lsn;
      await nextTurn();
    }
  } catch (error) {
    if (!(error instanceof WalError)) throw error;
  }
  return end;
}
