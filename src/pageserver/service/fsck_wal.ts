/** Checks the WAL that a page server keeps of a timeline, at rest. */
import { join } from "node:path";
import type { Disk } from "../../common/disk.ts";
import { errorMessage } from "../../common/errors.ts";
import { INVALID_LSN, type Lsn } from "../../common/lsn.ts";
import { TIMELINE_WAL_DIRECTORY } from "../../common/paths.ts";
import { PG_MAJORS, pgVersion } from "../../postgres/versions/find_version.ts";
import { isWalSegmentSize, XLOG_BLCKSZ, XLP_MAGIC, XLP_PAGEADDR } from "../../postgres/wal/page_header.ts";
import type { WalFormat } from "../../postgres/wal/wal_format.ts";
import { readMetadata } from "../../pagestore/mod.ts";
import { checkWalAtOnce, endOfWritten, segmentFiles, type WalDamage } from "../../wal_store/check_wal.ts";
import { WalStore } from "../../wal_store/wal_store.ts";
import { decodeTimelineInfo } from "../timeline/timeline_info.ts";

export interface TimelineWalCheck {
  /** How much was read. */
  readonly bytes: number;
  /** What is wrong and what to do about it, a sentence each. */
  readonly problems: readonly string[];
}

/**
 * Nothing says where a page server's WAL ends. It writes from the front, in files full of zeros: so all of it up to the last byte
 * that is not zero is WAL, the last record cut short perhaps.
 *
 * @param directory the timeline's
 * @throws {ZenithError} as {@link readMetadata}
 */
export async function checkTimelineWal(disk: Disk, directory: string): Promise<TimelineWalCheck> {
  const dir = join(directory, TIMELINE_WAL_DIRECTORY);
  const metadata = readMetadata(disk, directory);
  const { walStartLsn } = decodeTimelineInfo(metadata.userData, directory);
  const problems: string[] = [];
  let bytes = 0;
  let store: WalStore | undefined;
  try {
    // The last file may not have got its size before a crash.
    const sizes = segmentFiles(disk, dir).map((name) => disk.statSync(join(dir, name))?.size ?? 0);
    const segmentSize = Math.max(0, ...sizes);
    if (segmentSize === 0) return { bytes, problems };
    if (!isWalSegmentSize(segmentSize)) {
      return { bytes, problems: [`${dir}: no WAL segment has ${segmentSize} bytes; ${RESTORE}`] };
    }
    store = await WalStore.open(dir, { segmentSize, disk, startLsn: walStartLsn, sync: false });
    const options = { pg: walFormatOf(store), through: endOfWritten(store), wholeTo: INVALID_LSN };
    const found = checkWalAtOnce(store, options);
    bytes = found.bytes;
    problems.push(...found.damages.map((damage) => whatToDo(damage, metadata.diskConsistentLsn as Lsn)));
  } catch (error) {
    problems.push(`${errorMessage(error)}; ${RESTORE}`);
  } finally {
    await store?.close();
  }
  return { bytes, problems };
}

const RESTORE = "put the file back from a copy";

function whatToDo({ lsn, what }: WalDamage, diskConsistentLsn: Lsn): string {
  if (lsn < diskConsistentLsn) {
    return `${what}. The layers have what this record says: the branch is whole, only archives and standbys would miss the WAL`;
  }
  return `${what}. Copy the directory, then start the page server: it takes the WAL from there on from a safekeeper again. ` +
    `Without safekeepers ${RESTORE}, else the branch ends there`;
}

/** That of the first page that has a header. Where there is none, the WAL does not fill a page. */
function walFormatOf(store: WalStore): WalFormat {
  const header = new Uint8Array(XLP_PAGEADDR + 8);
  const view = new DataView(header.buffer);
  const first = store.startLsn + (XLOG_BLCKSZ - store.startLsn % XLOG_BLCKSZ) % XLOG_BLCKSZ;
  for (let at = first; at + header.length <= store.writtenLsn; at += XLOG_BLCKSZ) {
    store.read(at as Lsn, header, 0, header.length);
    if (view.getBigUint64(XLP_PAGEADDR, true) !== BigInt(at)) continue;
    const magic = view.getUint16(XLP_MAGIC, true);
    const pg = PG_MAJORS.map(pgVersion).find(({ walPageMagic }) => walPageMagic === magic);
    if (pg !== undefined) return pg;
  }
  return pgVersion(15);
}
