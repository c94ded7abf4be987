/** Reads the files of a cluster or a backup that lies unpacked in a directory. */
import {
  closeSync,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
} from "node:fs";
import { join } from "node:path";
import { ioError, systemErrorCode, ZenithError } from "../common/errors.ts";
import { BACKUP_LABEL_FILE, BACKUP_MANIFEST_FILE } from "../postgres/cluster/backup_files.ts";
import { CONTROL_FILE_PATH, parseControlFile } from "../postgres/control_file.ts";
import { walFileName } from "../postgres/wal/page_header.ts";
import { encodeTablespaceMap, TABLESPACE_MAP_FILE } from "../protocol/tablespace_map.ts";
import { fileOfBytes, type SourceFile } from "./source_file.ts";

const READ_BYTES = 256 << 10;

/** The characters of a segment's name before its number: those of the timeline. */
const TLI_DIGITS = 8;

/** These come first: they say what to make of the others. */
const FIRST_FILES = [BACKUP_MANIFEST_FILE, BACKUP_LABEL_FILE, "PG_VERSION"];

/** Directories of a cluster that a backup leaves out, or that do not belong to its content. */
const LEFT_OUT = new Set(["pg_replslot", "pg_stat", "pg_stat_tmp", "pg_subtrans", "pg_notify", "pg_serial"]);

/**
 * Yields the files of a data directory: of a stopped cluster, or of a backup with its
 * `backup_label`.
 *
 * @throws {ZenithError} `io`; `conflict` when a server runs on it
 */
export async function* readCluster(directory: string): AsyncGenerator<SourceFile> {
  const isBackup = exists(join(directory, BACKUP_LABEL_FILE));
  if (!isBackup && exists(join(directory, "postmaster.pid"))) {
    throw new ZenithError(
      "conflict",
      `a server runs on ${directory}, or was killed: it has a postmaster.pid`,
      {
        hint: "stop the server, or take a base backup of it with pg_basebackup",
      },
    );
  }
  for (const name of FIRST_FILES) if (exists(join(directory, name))) yield* readFile(directory, name);
  if (!exists(join(directory, TABLESPACE_MAP_FILE))) yield tablespaceMap(directory);
  const firstWal = firstWalSegment(directory, isBackup);
  yield* walk(directory, "", firstWal);
}

/** Yields the files in one directory whose name is wanted. */
export async function* readFiles(
  directory: string,
  prefix: string,
  isWanted: (name: string) => boolean,
): AsyncGenerator<SourceFile> {
  for (const name of listed(directory).filter(isWanted)) {
    for await (const file of readFile(directory, name)) yield { ...file, name: prefix + name };
  }
}

/** @throws {ZenithError} `not_found`, `io` */
export function listed(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") {
      throw new ZenithError("not_found", `there is no directory ${directory}`);
    }
    throw ioError("list", directory, error);
  }
}

function exists(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

async function* walk(root: string, directory: string, firstWal: string | null): AsyncGenerator<SourceFile> {
  for (const name of listed(join(root, directory))) {
    const path = directory === "" ? name : `${directory}/${name}`;
    const stat = lstatSync(join(root, path), { throwIfNoEntry: false });
    // The directories of tablespaces, and pg_wal, may be links.
    const isDirectory = stat?.isDirectory() === true ||
      stat?.isSymbolicLink() === true && (directory === "pg_tblspc" || path === "pg_wal");
    if (isDirectory) {
      if (!LEFT_OUT.has(path)) yield* walk(root, path, firstWal);
    } else if (stat?.isFile() === true && !FIRST_FILES.includes(path)) {
      if (directory === "pg_wal" && firstWal !== null && isBefore(name, firstWal)) continue;
      yield* readFile(root, path);
    }
  }
}

/** Whether a WAL segment precedes another one, of its timeline or of one before it. */
function isBefore(name: string, first: string): boolean {
  return /^[0-9A-F]{24}$/.test(name) && name.slice(TLI_DIGITS) < first.slice(TLI_DIGITS);
}

/** Returns the first segment that is needed. Null when that is not known. */
function firstWalSegment(directory: string, isBackup: boolean): string | null {
  if (isBackup) return firstSegmentOfLabel(readFileSync(join(directory, BACKUP_LABEL_FILE), "utf8"));
  const path = join(directory, CONTROL_FILE_PATH);
  return exists(path) ? firstSegmentOfControlFile(readFileSync(path)) : null;
}

/** The name of the segment that a `backup_label` begins with. Null when it names none. */
export function firstSegmentOfLabel(label: string): string | null {
  return /^START WAL LOCATION: \S+ \(file ([0-9A-F]{24})\)/m.exec(label)?.[1] ?? null;
}

/** The name of the segment that has the last checkpoint. @throws {ZenithError} `corrupt_data` */
export function firstSegmentOfControlFile(bytes: Uint8Array): string {
  const { checkPoint, checkPointCopy, xlog_seg_size } = parseControlFile(bytes);
  return walFileName(checkPointCopy.ThisTimeLineID, checkPoint, xlog_seg_size);
}

/** The locations that links lead to. A tablespace that is a plain directory has none. */
function tablespaceMap(directory: string): SourceFile {
  const locations = new Map<number, string>();
  const links = join(directory, "pg_tblspc");
  for (const name of exists(links) ? listed(links) : []) {
    if (!/^[1-9]\d{0,9}$/.test(name)) continue;
    const isLink = lstatSync(join(links, name)).isSymbolicLink();
    locations.set(Number(name), isLink ? readlinkSync(join(links, name)) : "");
  }
  return fileOfBytes(TABLESPACE_MAP_FILE, encodeTablespaceMap(locations));
}

async function* readFile(root: string, name: string): AsyncGenerator<SourceFile> {
  const path = join(root, name);
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch (error) {
    throw ioError("read", path, error);
  }
  try {
    const { size } = fstatSync(fd);
    yield { name, size, content: pieces(fd, path, size) };
  } finally {
    closeSync(fd);
  }
}

async function* pieces(fd: number, path: string, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < size;) {
    const piece = new Uint8Array(Math.min(READ_BYTES, size - at));
    let count: number;
    try {
      count = readSync(fd, piece, 0, piece.length, at);
    } catch (error) {
      throw ioError("read", path, error);
    }
    if (count === 0) throw new ZenithError("conflict", `${path} is being changed: it became shorter`);
    yield piece.subarray(0, count);
    at += count;
  }
}
