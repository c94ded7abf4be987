/** Checks a directory of WAL that is in use: others append to it and remove segments meanwhile. */
import type { Disk } from "../common/disk.ts";
import { INVALID_LSN, type Lsn } from "../common/lsn.ts";
import { parseWalFileName } from "../postgres/wal/page_header.ts";
import type { WalFormat } from "../postgres/wal/wal_format.ts";
import { checkWal, findEndOfWritten, segmentFiles, type WalDamage } from "./check_wal.ts";
import { WalStore } from "./wal_store.ts";

export interface WalInUse {
  readonly disk: Disk;
  readonly dir: string;
  readonly segmentSize: number;
  /** Where the timeline's WAL starts. */
  readonly timelineStartLsn: Lsn;
  readonly pg: WalFormat;
  readonly systemId?: bigint;
  /** Nobody changes WAL below this. Null when nobody writes now: check as far as there is WAL. */
  readonly through: Lsn | null;
  /** As for {@link checkWal}. */
  readonly wholeTo: Lsn;
}

/**
 * Reads the directory through files of its own, so that its user may close theirs. Yields how many
 * bytes each step has read.
 *
 * @returns what is damaged
 * @throws {ZenithError} `io`, `corrupt_data` when segments are missing, `not_found`
 */
export async function* scrubWal(wal: WalInUse): AsyncGenerator<number, readonly WalDamage[]> {
  const { disk, dir, segmentSize, timelineStartLsn: startLsn } = wal;
  const store = await WalStore.open(dir, { disk, segmentSize, startLsn, sync: false, create: false });
  try {
    if (segmentFiles(disk, dir).length === 0) return [];
    const through = wal.through ?? (yield* findEndOfWritten(store));
    const beginsNow = () => firstLsn(disk, dir, segmentSize);
    const damages = yield* checkWal(store, { ...wal, through, beginsNow });
    const begins = beginsNow();
    return damages.filter(({ lsn }) => lsn >= begins);
  } finally {
    await store.close();
  }
}

/** Returns where the first segment in the directory starts; 0 when there is none. */
function firstLsn(disk: Disk, dir: string, segmentSize: number): Lsn {
  const [first] = segmentFiles(disk, dir);
  return first === undefined ? INVALID_LSN : parseWalFileName(first, segmentSize)?.lsn ?? INVALID_LSN;
}
