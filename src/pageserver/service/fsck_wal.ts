/** Checks the WAL that a page server keeps for a timeline at rest. */
import { join } from "node:path";
import type { Disk } from "../../common/disk.ts";
import { errorMessage } from "../../common/errors.ts";
import { INVALID_LSN, type Lsn } from "../../common/lsn.ts";
import { TIMELINE_WAL_DIRECTORY } from "../../common/paths.ts";
import type { Damage } from "../../process/scrub.ts";
import { pgVersion } from "../../postgres/versions/find_version.ts";
import { isWalSegmentSize } from "../../postgres/wal/page_header.ts";
import { readMetadata } from "../../pagestore/mod.ts";
import { checkWalAtOnce, endOfWritten, segmentFiles, type WalDamage } from "../../wal_store/check_wal.ts";
import { scrubWal } from "../../wal_store/scrub_wal.ts";
import { WalStore } from "../../wal_store/wal_store.ts";
import { decodeTimelineInfo } from "../timeline/timeline_info.ts";

export interface TimelineWalCheck {
  /** How many bytes were read. */
  readonly bytes: number;
  /** What is wrong and what to do about it, one sentence each. */
  readonly problems: readonly string[];
}

/**
 * Checks the WAL of a timeline that is not in use. Nothing says where a page server's WAL ends. But
 * it is written from the front, in files full of zeros, so everything up to the last non-zero byte
 * is WAL. The last record may be cut short.
 *
 * @param directory the timeline's directory
 * @throws {ZenithError} as {@link readMetadata}
 */
export async function checkTimelineWal(disk: Disk, directory: string): Promise<TimelineWalCheck> {
  const dir = join(directory, TIMELINE_WAL_DIRECTORY);
  const metadata = readMetadata(disk, directory);
  const { walStartLsn, pgMajor } = decodeTimelineInfo(metadata.userData, directory);
  const problems: string[] = [];
  let bytes = 0;
  let store: WalStore | undefined;
  try {
    const segmentSize = segmentSizeIn(disk, dir);
    if (segmentSize === 0) return { bytes, problems };
    if (!isWalSegmentSize(segmentSize)) {
      return { bytes, problems: [`${wrongSize(dir, segmentSize)}; ${RESTORE}`] };
    }
    store = await WalStore.open(dir, { segmentSize, disk, startLsn: walStartLsn, sync: false });
    const options = { pg: pgVersion(pgMajor), through: endOfWritten(store), wholeTo: INVALID_LSN };
    const found = checkWalAtOnce(store, options);
    bytes = found.bytes;
    const consistent = metadata.diskConsistentLsn as Lsn;
    problems.push(...found.damages.map((damage) => `${damage.what}. ${whatToDo(damage, consistent)}`));
  } catch (error) {
    problems.push(`${errorMessage(error)}; ${RESTORE}`);
  } finally {
    await store?.close();
  }
  return { bytes, problems };
}

/**
 * Checks the WAL of a timeline that is in use. Yields how many bytes each step has read.
 *
 * @param end for an open timeline: nobody changes the WAL below `through`, and records up to
 *   `wholeTo` are whole; null when nobody has the timeline open
 * @returns what is damaged
 * @throws {ZenithError} as {@link readMetadata}; `io`, `corrupt_data` when segments are missing
 */
export async function* scrubTimelineWal(
  disk: Disk,
  directory: string,
  end: { readonly through: Lsn; readonly wholeTo: Lsn } | null,
): AsyncGenerator<number, Damage[]> {
  const dir = join(directory, TIMELINE_WAL_DIRECTORY);
  const metadata = readMetadata(disk, directory);
  const { walStartLsn, pgMajor } = decodeTimelineInfo(metadata.userData, directory);
  const segmentSize = segmentSizeIn(disk, dir);
  if (segmentSize === 0 || (end !== null && end.through <= walStartLsn)) return [];
  if (!isWalSegmentSize(segmentSize)) return [{ what: wrongSize(dir, segmentSize), hint: RESTORE }];
  const damages = yield* scrubWal({
    disk,
    dir,
    segmentSize,
    timelineStartLsn: walStartLsn,
    pg: pgVersion(pgMajor),
    through: end?.through ?? null,
    wholeTo: end?.wholeTo ?? INVALID_LSN,
  });
  const consistent = readMetadata(disk, directory).diskConsistentLsn as Lsn;
  return damages.map((damage) => ({ what: damage.what, hint: whatToDo(damage, consistent) }));
}

/** A crash may have left the last file shorter than a segment. */
function segmentSizeIn(disk: Disk, dir: string): number {
  return Math.max(0, ...segmentFiles(disk, dir).map((name) => disk.statSync(join(dir, name))?.size ?? 0));
}

function wrongSize(dir: string, segmentSize: number): string {
  return `${dir}: no WAL segment has ${segmentSize} bytes`;
}

const RESTORE = "put the file back from a copy";

function whatToDo({ lsn }: WalDamage, diskConsistentLsn: Lsn): string {
  if (lsn < diskConsistentLsn) {
    return "The layers have what this record says: the branch is whole, only archives and standbys would miss the WAL";
  }
  return "Copy the directory, then start the page server: it takes the WAL from there on from a safekeeper again. " +
    `Without safekeepers ${RESTORE}, else the branch ends there`;
}
