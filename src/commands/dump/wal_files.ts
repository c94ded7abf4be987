/** Finds and reads WAL segment files, in order and a piece at a time. */
import { closeSync, openSync, readdirSync, readSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { ioError, ZenithError } from "../../common/errors.ts";
import { formatLsn, type Lsn } from "../../common/lsn.ts";
import {
  isWalSegmentSize,
  parseWalFileName,
  SIZE_OF_XLOG_LONG_PHD,
  XLOG_BLCKSZ,
  XLP_FIRST_IS_CONTRECORD,
  XLP_INFO,
  XLP_MAGIC,
  XLP_REM_LEN,
  XLP_SEG_SIZE,
} from "../../postgres/wal/page_header.ts";
import { pgVersionOfWal } from "../../postgres/versions/find_version.ts";
import type { PgVersion } from "../../postgres/versions/pg_version.ts";

export interface WalFile {
  path: string;
  /** The segment's first byte. */
  lsn: Lsn;
}

export interface WalFiles {
  segmentSize: number;
  /** The major version that wrote them. */
  pg: PgVersion;
  /** In order of their LSN, without a gap. */
  files: WalFile[];
}

const WAL_FILE_NAME = /^[0-9A-F]{24}$/;

/**
 * Finds the segments at `path`: one file, or all files in a directory or its `pg_wal`, from the one
 * that contains `from` to the first gap. Where several timelines have a segment, takes the newest
 * one's.
 *
 * @throws {ZenithError} `not_found` when there are none, `corrupt_data` when the first was not
 *   written by a major version that Zenith runs
 */
export function findWalFiles(path: string, from: Lsn | undefined): WalFiles {
  if (isDirectory(path)) {
    const inside = join(path, "pg_wal");
    return findInDirectory(isDirectory(inside) ? inside : path, from);
  }
  const name = basename(path);
  if (!WAL_FILE_NAME.test(name)) {
    throw new ZenithError("invalid_argument", `${path} is not named like a WAL segment: 24 hex digits`);
  }
  return walFiles(dirname(path), [name], from);
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function findInDirectory(directory: string, from: Lsn | undefined): WalFiles {
  let names: string[];
  try {
    names = readdirSync(directory).filter((name) => WAL_FILE_NAME.test(name)).sort();
  } catch (error) {
    throw ioError("read directory", directory, error);
  }
  if (names.length === 0) throw new ZenithError("not_found", `there are no WAL segments in ${directory}`);
  return walFiles(directory, names, from);
}

function walFiles(directory: string, names: readonly string[], from: Lsn | undefined): WalFiles {
  const { segmentSize, pg } = readFirstHeader(join(directory, names[0]));
  const byLsn = new Map<number, string>();
  // Names sort by timeline first, so a newer timeline's segment replaces an older one's.
  for (const name of names) {
    const position = parseWalFileName(name, segmentSize);
    if (position !== undefined) byLsn.set(position.lsn, name);
  }
  const files: WalFile[] = [];
  for (const lsn of [...byLsn.keys()].sort((a, b) => a - b)) {
    if (from !== undefined && lsn + segmentSize <= from) continue;
    if (files.length > 0 && lsn !== files.at(-1)!.lsn + segmentSize) break;
    files.push({ path: join(directory, byLsn.get(lsn)!), lsn: lsn as Lsn });
  }
  if (files.length === 0 || (from !== undefined && files[0].lsn > from)) {
    throw new ZenithError(
      "not_found",
      `no WAL segment in ${directory} holds ${formatLsn(from ?? (0 as Lsn))}`,
    );
  }
  return { segmentSize, pg, files };
}

function readFirstHeader(path: string): { segmentSize: number; pg: PgVersion } {
  const header = new Uint8Array(SIZE_OF_XLOG_LONG_PHD);
  readWalFile(path, 0, header);
  const view = new DataView(header.buffer);
  const magic = view.getUint16(XLP_MAGIC, true);
  const segmentSize = view.getUint32(XLP_SEG_SIZE, true);
  if (!isWalSegmentSize(segmentSize)) {
    throw new ZenithError(
      "corrupt_data",
      `${path} does not begin like a WAL segment: magic 0x${magic.toString(16)}, segment size ${segmentSize}`,
    );
  }
  return { segmentSize, pg: pgVersionOfWal(magic) };
}

/**
 * Returns where the WAL in a segment begins. A safekeeper leaves out most pages of what came before
 * a branch: the first page says that a record goes on behind it, and zeros follow.
 */
export function firstWalPage({ path, lsn }: WalFile, segmentSize: number): Lsn {
  const page = new Uint8Array(SIZE_OF_XLOG_LONG_PHD);
  const view = new DataView(page.buffer);
  readWalFile(path, 0, page);
  const isContinued = (view.getUint16(XLP_INFO, true) & XLP_FIRST_IS_CONTRECORD) !== 0 &&
    view.getUint32(XLP_REM_LEN, true) > XLOG_BLCKSZ;
  if (!isContinued) return lsn;
  for (let offset = XLOG_BLCKSZ; offset < segmentSize; offset += XLOG_BLCKSZ) {
    if (readWalFile(path, offset, page) === 0) break;
    if (view.getUint16(XLP_MAGIC, true) !== 0) return (offset === XLOG_BLCKSZ ? lsn : lsn + offset) as Lsn;
  }
  return lsn;
}

/**
 * Reads from `offset` into `into` and returns the number of bytes read.
 *
 * @throws {ZenithError} `io`
 */
export function readWalFile(path: string, offset: number, into: Uint8Array): number {
  try {
    const fd = openSync(path, "r");
    try {
      return readSync(fd, into, 0, into.length, offset);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw ioError("read WAL segment", path, error);
  }
}
