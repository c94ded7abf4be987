/**
 * WAL from before the place where Postgres starts, which only replication slots need.
 *
 * On lazy storage, such a segment is a symbolic link into the mount, whose files are fetched when
 * somebody reads them. Postgres opens segments by name. When it needs one no more it removes the
 * link; it makes new segments only of regular files (RemoveXlogFile in
 * src/backend/access/transam/xlog.c).
 */
import { closeSync, readSync } from "node:fs";
import { join } from "node:path";
import { ForeignDirectory } from "../../common/foreign_directory.ts";
import { withIoErrors } from "../../common/errors.ts";
import type { Lsn } from "../../common/lsn.ts";
import type { PgUser } from "../../pg_install/pg_user.ts";
import { parseWalFileName, segmentStart, walFileName } from "../../postgres/wal/page_header.ts";
import { tlisOfSegment, type WalTimelines } from "../../postgres/wal/wal_timelines.ts";
import { readWalHistory } from "./wal_history.ts";

/** The directory of the mount that has the segments. */
export const WAL_DIRECTORY = "wal";

const STATUS_MODE = 0o600;

/** Whole segments, from the one that starts at `from` to the one before `to`. */
export interface SegmentRange {
  readonly from: Lsn;
  readonly to: Lsn;
  readonly segmentSize: number;
  /** A segment has a name for each of PostgreSQL's timelines that looks for it. */
  readonly timelines: WalTimelines;
}

export function* segmentsOf(
  { from, to, segmentSize, timelines }: SegmentRange,
): Generator<{ name: string; start: Lsn }> {
  for (let start = from; start < to; start = (start + segmentSize) as Lsn) {
    for (const tli of tlisOfSegment(timelines, start, segmentSize)) {
      yield { name: walFileName(tli, start, segmentSize), start };
    }
  }
}

/** Puts links to the segments into a new data directory. @throws {ZenithError} `io` */
export function linkSegments(pgdata: string, mount: string, range: SegmentRange): void {
  using root = ForeignDirectory.open(pgdata);
  using wal = root.directory("pg_wal");
  withIoErrors("link segments in", wal.path, () => {
    for (const { name } of segmentsOf(range)) wal.link(name, join(mount, WAL_DIRECTORY, name));
  });
}

/** Whether the data directory has the segment, or a link to it. */
export function hasSegment(pgdata: string, lsn: Lsn, segmentSize: number): boolean {
  using root = ForeignDirectory.open(pgdata);
  using wal = root.directory("pg_wal");
  return wal.lstat(nameOf(readWalHistory(pgdata), segmentStart(lsn, segmentSize), segmentSize)) !== undefined;
}

/**
 * Notes in a new data directory that the segments before `lsn`'s are archived. An earlier Postgres
 * had them to archive. Without the note, Postgres archives them again before it removes them, and
 * an `archive_command` that refuses what it has stops there.
 *
 * @throws {ZenithError} `io`
 */
export function noteArchived(pgdata: string, lsn: Lsn, segmentSize: number, user: PgUser | undefined): void {
  using root = ForeignDirectory.open(pgdata);
  using wal = root.directory("pg_wal");
  using status = wal.makeDirectory("archive_status", user);
  for (const name of wal.names()) {
    const segment = parseWalFileName(name, segmentSize);
    if (segment === undefined || segment.lsn + segmentSize > lsn) continue;
    closeSync(status.createFile(`${name}.done`, STATUS_MODE, user));
  }
}

/** Reads `length` bytes at `lsn`, which don't reach into the next segment. */
export type ReadWal = (lsn: Lsn, length: number) => Uint8Array | Promise<Uint8Array>;

/**
 * Returns a reader of the segments that are files of the data directory. It throws `io`. Where a
 * file is shorter than its segment, zeros follow.
 */
export function walFiles(pgdata: string, segmentSize: number): ReadWal {
  const timelines = readWalHistory(pgdata);
  return (lsn, length) => {
    using root = ForeignDirectory.open(pgdata);
    using wal = root.directory("pg_wal");
    const start = segmentStart(lsn, segmentSize);
    const name = nameOf(timelines, start, segmentSize);
    const fd = wal.openForReading(name);
    try {
      const bytes = new Uint8Array(length);
      return withIoErrors("read", join(wal.path, name), () => {
        readSync(fd, bytes, 0, length, lsn - start);
        return bytes;
      });
    } finally {
      closeSync(fd);
    }
  };
}

/** Returns the name of the segment on the last timeline that it has WAL of. */
function nameOf(timelines: WalTimelines, start: Lsn, segmentSize: number): string {
  return walFileName(tlisOfSegment(timelines, start, segmentSize).at(-1)!, start, segmentSize);
}
