/**
 * Reads WAL from the disk and checks all that can be checked: page headers, the chain of records,
 * and their checksums. Most WAL is never read otherwise, so a flipped bit would be found only when
 * the WAL is needed.
 */
import { Buffer } from "node:buffer";
import { join } from "node:path";
import type { Disk } from "../common/disk.ts";
import { formatLsn, INVALID_LSN, type Lsn } from "../common/lsn.ts";
import { WalDecoder } from "../postgres/wal/decoder.ts";
import { WalError } from "../postgres/wal/error.ts";
import { segmentOffset, segmentStart, WAL_TLI, walFileName } from "../postgres/wal/page_header.ts";
import { WalRecord } from "../postgres/wal/record.ts";
import type { WalFormat } from "../postgres/wal/wal_format.ts";
import type { WalStore } from "./wal_store.ts";

export interface WalCheckOptions {
  /** The major version that wrote the WAL. */
  readonly pg: WalFormat;
  /** The system identifier, checked when it is known. */
  readonly systemId?: bigint;
  /** Where the WAL to check ends. */
  readonly through: Lsn;
  /** Records up to here are known to be whole. The last one after it may be cut short. */
  readonly wholeTo: Lsn;
  /** Where the WAL begins now, if segments are removed meanwhile. WAL below it is not missing. */
  readonly beginsNow?: () => Lsn;
}

export interface WalDamage {
  /** The start of the wrong record or page. */
  readonly lsn: Lsn;
  /** The file, the place in it, and what is wrong there. */
  readonly what: string;
}

/**
 * Decodes a store's WAL from its start. After damage it continues with the next segment, so that
 * each fault is reported once. If a record's beginning was removed with its segment, its end can't
 * be checked. Yields how many bytes each step has read, for callers that want to pause.
 *
 * @returns what is damaged
 * @throws {ZenithError} `io`, `out_of_range`
 */
export function* checkWal(store: WalStore, options: WalCheckOptions): Generator<number, WalDamage[]> {
  const { segmentSize } = store;
  const { through } = options;
  const damages: WalDamage[] = [];
  const record = new WalRecord();
  let from = store.startLsn;
  let findFirst = !store.isFromStart;
  while (from < through) {
    // A record may be as large as a gigabyte. Its content does not matter here.
    const passesOver = () => true;
    const decoder = new WalDecoder({ ...options, segmentSize, startLsn: from, findFirst, passesOver });
    try {
      for (const { lsn, bytes } of store.iterate(from, Math.min(through, store.writtenLsn) as Lsn)) {
        decoder.feed(bytes, lsn);
        // The decoder checks each record as it decodes it.
        while (decoder.next(record));
        yield bytes.length;
      }
      const isShort = decoder.position < options.wholeTo || store.writtenLsn < through;
      if (!isShort) return damages;
      throw new WalError(
        decoder.position,
        `no whole record is there, but the WAL goes to ${formatLsn(through)}`,
      );
    } catch (error) {
      const begins = options.beginsNow?.() ?? INVALID_LSN;
      const damaged = error instanceof WalError ? error : undefined;
      if (begins > from && (damaged === undefined || damaged.lsn < begins)) {
        from = begins;
      } else {
        if (damaged === undefined) throw error;
        damages.push(damageAt(store, damaged));
        from = (segmentStart(Math.max(damaged.lsn, from), segmentSize) + segmentSize) as Lsn;
      }
      findFirst = true;
      if (from >= store.writtenLsn) break;
    }
  }
  return damages;
}

/** Runs all of {@link checkWal} without a pause. @throws {ZenithError} `io` */
export function checkWalAtOnce(
  store: WalStore,
  options: WalCheckOptions,
): { bytes: number; damages: readonly WalDamage[] } {
  const check = checkWal(store, options);
  let bytes = 0;
  let step = check.next();
  for (; step.done !== true; step = check.next()) bytes += step.value;
  return { bytes, damages: step.value };
}

function damageAt({ dir, segmentSize }: WalStore, { lsn, message }: WalError): WalDamage {
  const path = join(dir, walFileName(WAL_TLI, lsn, segmentSize));
  return { lsn, what: `${path}, offset ${segmentOffset(lsn, segmentSize)}: ${message}` };
}

/** How much {@link endOfWritten} reads at once. */
const SEARCH_CHUNK_BYTES = 128 << 10;
const ZEROS = new Uint8Array(SEARCH_CHUNK_BYTES);

/**
 * Finds the end of the last non-zero byte: how far a store that was just opened may have been
 * written. Yields how many bytes each step has read.
 */
export function* findEndOfWritten(store: WalStore): Generator<number, Lsn> {
  const buffer = new Uint8Array(SEARCH_CHUNK_BYTES);
  for (let to = store.writtenLsn; to > store.startLsn;) {
    const from = Math.max(store.startLsn, to - buffer.length) as Lsn;
    const count = store.read(from, buffer, 0, to - from);
    // Most of a segment has never been written. To compare it is quicker than to look at each byte.
    if (Buffer.compare(buffer.subarray(0, count), ZEROS.subarray(0, count)) !== 0) {
      let last = count - 1;
      while (buffer[last] === 0) last--;
      return (from + last + 1) as Lsn;
    }
    to = from;
    yield count;
  }
  return store.startLsn;
}

/** Runs all of {@link findEndOfWritten} without a pause. */
export function endOfWritten(store: WalStore): Lsn {
  const search = findEndOfWritten(store);
  let step = search.next();
  while (step.done !== true) step = search.next();
  return step.value;
}

/**
 * Lists the WAL segments in `dir`, whatever their size. The list is empty when there is no `dir`.
 */
export function segmentFiles(disk: Disk, dir: string): string[] {
  if (disk.statSync(dir) === null) return [];
  return disk.readdirSync(dir).filter((name) => SEGMENT_NAME.test(name)).sort();
}

/** Matches the file name of any segment. */
const SEGMENT_NAME = /^[0-9A-F]{24}$/;
