/** Takes the WAL of a backup out of an archive, as files of the backup's pg_wal. */
import { wayFrom } from "./timeline_history.ts";
import type { WalArchive } from "./wal_archive.ts";
import { ZenithError } from "../common/errors.ts";
import type { Lsn } from "../common/lsn.ts";
import {
  isWalSegmentSize,
  parseWalFileName,
  SIZE_OF_XLOG_LONG_PHD,
  walFileName,
  XLP_SEG_SIZE,
} from "../postgres/wal/page_header.ts";

/** A segment, as a file of a backup's pg_wal. */
export interface ArchivedSegment {
  readonly name: string;
  readonly size: number;
  /** It must be read to the end before the next segment is asked for. */
  readonly content: AsyncIterable<Uint8Array>;
}

export interface WantedWal {
  /** The name of the first segment. Its timeline is the backup's. */
  readonly first: string;
  /**
   * Where to stop: in the segment that the backup ends in, at the end of the backup's timeline, or
   * at the end of the archive, through all failovers.
   */
  readonly until: Lsn | "end of timeline" | "end of archive";
  /** Whether the backup itself brings a segment. */
  isThere(name: string): boolean;
}

/**
 * Yields the segments up to where they are wanted or the first one that is missing. After a
 * failover they come from the timeline that went on, under the names that they would have had
 * without it.
 *
 * @throws {ZenithError} `not_found`, `corrupt_data`, `io`
 */
export async function* readArchivedWal(
  archive: WalArchive,
  { first, until, isThere }: WantedWal,
): AsyncGenerator<ArchivedSegment> {
  const tli = parseInt(first.slice(0, 8), 16);
  const segmentSize = await segmentSizeIn(archive, tli);
  const start = segmentSize === null ? undefined : parseWalFileName(first, segmentSize);
  if (segmentSize === null || start === undefined) return;
  const way = wayFrom(tli, await archive.histories());
  const leftAt = until === "end of archive" ? null : way[0]!.leftAt;
  for (let lsn = start.lsn; typeof until !== "number" || lsn < until; lsn = (lsn + segmentSize) as Lsn) {
    if (leftAt !== null && lsn >= leftAt) return;
    const name = walFileName(tli, lsn, segmentSize);
    if (isThere(name)) continue;
    const found = await archive.findOnWay(way, lsn, segmentSize);
    if (found === null) return;
    const end = Math.min(found.leftAt ?? Infinity, leftAt ?? Infinity, lsn + segmentSize);
    const content = whole(archive.read(found.path), found.path, segmentSize, end - lsn);
    yield { name: `pg_wal/${name}`, size: segmentSize, content };
  }
}

/** Returns the size of the segments. Null when the archive has none of the timeline. */
async function segmentSizeIn(archive: WalArchive, tli: number): Promise<number | null> {
  const name = (await archive.segmentsOf(tli))?.first;
  const path = name === undefined ? null : await archive.find(name);
  if (path === null) return null;
  for await (const bytes of archive.read(path)) {
    if (bytes.length < SIZE_OF_XLOG_LONG_PHD) break;
    const size = new DataView(bytes.buffer, bytes.byteOffset).getUint32(XLP_SEG_SIZE, true);
    if (isWalSegmentSize(size)) return size;
    break;
  }
  throw new ZenithError("corrupt_data", `${path} does not begin as a WAL segment does`);
}

/** @param usedBytes zeros follow after these: what is there belongs to another history */
async function* whole(
  content: AsyncIterable<Uint8Array>,
  path: string,
  size: number,
  usedBytes: number,
): AsyncGenerator<Uint8Array> {
  let length = 0;
  for await (const bytes of content) {
    if (length + bytes.length > size) break;
    const used = Math.max(0, Math.min(bytes.length, usedBytes - length));
    length += bytes.length;
    if (used === bytes.length) yield bytes;
    else {
      const cut = new Uint8Array(bytes.length);
      cut.set(bytes.subarray(0, used));
      yield cut;
    }
  }
  if (length !== size) {
    throw new ZenithError("corrupt_data", `WAL segment ${path} has not ${size} bytes but others`);
  }
}
