/**
 * Builds a compute's data directory from a basebackup: a tar with everything except the
 * configuration files. Data of an earlier run is never reused.
 */
import { closeSync, writeSync } from "node:fs";
import { join } from "node:path";
import { ioError, ZenithError } from "../../common/errors.ts";
import { ForeignDirectory } from "../../common/foreign_directory.ts";
import { POSTGRES_MAJORS, postgresMajorsInWords } from "../../common/postgres_major.ts";
import { PG_CONTROL_FILE_SIZE } from "../../postgres/control_file.ts";
import type { PgUser } from "../../pg_install/pg_user.ts";
import { RELATION_MANIFEST_FILE } from "../../protocol/relation_manifest.ts";
import { type TarEntry, type TarHandler, TarReader } from "../../protocol/tar.ts";
import { pageOffset } from "../../postgres/wal/page_header.ts";
import { type CutSegment, parseCutSegmentName } from "../../protocol/cut_segment.ts";
import type { BasebackupContent } from "../../protocol/management.ts";
import { writeCutHead } from "./cut_head.ts";
import { KEPT, OURS, STATISTICS } from "./configuration_files.ts";

const VERSION_FILE_MAX_BYTES = 64;

const FILE_MODE = 0o600;

export interface DataDirectoryProgress {
  readonly files: number;
  readonly bytes: number;
}

/**
 * Returns the PostgreSQL major of a data directory.
 *
 * @throws {ZenithError} `protocol` when Zenith does not run that major
 */
export function dataDirectoryMajor(pgdata: string): number {
  using directory = ForeignDirectory.open(pgdata);
  return majorOf(directory);
}

function majorOf(directory: ForeignDirectory): number {
  const version = new TextDecoder().decode(directory.read("PG_VERSION", VERSION_FILE_MAX_BYTES)).trim();
  if (POSTGRES_MAJORS.includes(Number(version))) return Number(version);
  throw incomplete(`PG_VERSION is ${version}, this Zenith runs PostgreSQL ${postgresMajorsInWords()}`);
}

function incomplete(what: string): ZenithError {
  return new ZenithError("protocol", `the basebackup is not a complete data directory: ${what}`);
}

/** Removes everything that an earlier run has left, except the configuration. */
export function clearDataDirectory(pgdata: string): void {
  using directory = ForeignDirectory.open(pgdata);
  try {
    for (const name of directory.names()) {
      const isKept = KEPT.has(name) && !(name === STATISTICS && !directory.lstat(name)?.isDirectory());
      if (OURS.test(name) && !isKept) directory.remove(name);
    }
  } catch (error) {
    throw error instanceof ZenithError ? error : ioError("clear", pgdata, error);
  }
}

/**
 * Unpacks a basebackup as it arrives. Never has more of it in memory than one chunk of the stream.
 *
 * @param owner the user who gets the files
 * @param onProgress called after every file
 * @param content what the basebackup was asked to contain
 * @returns how much was unpacked
 * @throws {ZenithError} `protocol` when the tar is cut short or contains what a data directory may
 *   not, `disk_full`, `io`; errors of `tar` itself
 */
export async function unpackBasebackup(
  tar: AsyncIterable<Uint8Array>,
  pgdata: string,
  owner: PgUser | undefined,
  onProgress: (progress: DataDirectoryProgress) => void = () => {},
  content: BasebackupContent = "complete",
): Promise<DataDirectoryProgress> {
  const files = new FileWriter(pgdata, owner, onProgress);
  const reader = new TarReader(files);
  try {
    for await (const chunk of tar) reader.push(chunk);
    reader.finish();
  } finally {
    files.close();
  }
  assertComplete(pgdata, content);
  for (const cut of files.cutSegments) writeCutHead(pgdata, cut);
  return files.written;
}

/** Creates the files and directories of a basebackup. */
class FileWriter implements TarHandler {
  readonly #root: ForeignDirectory;
  readonly #owner: PgUser | undefined;
  readonly #onProgress: (progress: DataDirectoryProgress) => void;
  /** The segment whose beginning is left out, under each of its names. */
  readonly cutSegments: CutSegment[] = [];
  #files = 0;
  #bytes = 0;
  /** The directory of the last file. The next file usually has the same one. */
  #directory: { readonly name: string; readonly opened: ForeignDirectory } | null = null;
  /** The file that is being written. Null between files, and while a file is skipped. */
  #file: { readonly fd: number; readonly path: string; at: number } | null = null;

  constructor(
    pgdata: string,
    owner: PgUser | undefined,
    onProgress: (progress: DataDirectoryProgress) => void,
  ) {
    this.#root = ForeignDirectory.open(pgdata);
    this.#owner = owner;
    this.#onProgress = onProgress;
  }

  get written(): DataDirectoryProgress {
    return { files: this.#files, bytes: this.#bytes };
  }

  begin(entry: TarEntry): void {
    const name = safeRelativePath(entry.name);
    if (entry.type === "directory") {
      if (name !== ".") this.#open(name);
      return;
    }
    // A compute has statistics of its own, so those of a basebackup are skipped.
    if (name.startsWith(`${STATISTICS}/`)) return;
    const slash = name.lastIndexOf("/");
    const directory = slash < 0 ? this.#root : this.#open(name.slice(0, slash));
    let file = name.slice(slash + 1);
    const cut = parseCutSegmentName(file);
    if (cut !== undefined) {
      this.cutSegments.push(cut);
      file = cut.name;
    }
    const fd = directory.createFile(file, FILE_MODE, this.#owner);
    const at = cut === undefined ? 0 : cut.begin - pageOffset(cut.begin);
    this.#file = { fd, path: join(directory.path, file), at };
  }

  /** Opens a directory, and creates it and its parents if necessary. */
  #open(name: string): ForeignDirectory {
    if (this.#directory?.name === name) return this.#directory.opened;
    let at = this.#root;
    for (const part of name.split("/")) {
      const next = at.makeDirectory(part, this.#owner);
      if (at !== this.#root) at[Symbol.dispose]();
      at = next;
    }
    this.#directory?.opened[Symbol.dispose]();
    this.#directory = { name, opened: at };
    return at;
  }

  content(bytes: Uint8Array): void {
    if (this.#file === null) return;
    writeAll(this.#file.fd, bytes, this.#file.at, this.#file.path);
    this.#file.at += bytes.length;
    this.#bytes += bytes.length;
  }

  end(): void {
    if (this.#file === null) return;
    this.#closeFile();
    this.#files++;
    this.#onProgress(this.written);
  }

  /** Closes everything, even an incomplete file. */
  close(): void {
    this.#closeFile();
    this.#directory?.opened[Symbol.dispose]();
    this.#directory = null;
    this.#root[Symbol.dispose]();
  }

  #closeFile(): void {
    if (this.#file === null) return;
    const { fd } = this.#file;
    this.#file = null;
    closeSync(fd);
  }
}

function writeAll(fd: number, bytes: Uint8Array, position: number, path: string): void {
  try {
    for (let at = 0; at < bytes.length;) {
      at += writeSync(fd, bytes, at, bytes.length - at, position + at);
    }
  } catch (error) {
    throw ioError("write", path, error);
  }
}

/**
 * @throws {ZenithError} `protocol` when the name would lead out of the data directory or replace
 *   the configuration
 */
function safeRelativePath(name: string): string {
  const path = name.replace(/\/$/, "").replace(/^\.\//, "");
  const parts = path.split("/");
  const escapes = path.includes("\0") || parts.some((part) => part === ".." || part === "" || part === ".");
  if (path !== "." && (escapes || KEPT.has(path) && path !== STATISTICS)) {
    throw new ZenithError("protocol", `basebackup: "${name}" is not a name inside a data directory`);
  }
  return path;
}

function assertComplete(pgdata: string, content: BasebackupContent): void {
  const fail = (what: string): void => {
    throw incomplete(what);
  };
  using directory = ForeignDirectory.open(pgdata);
  for (const name of ["PG_VERSION", "global", "base", "pg_wal", "pg_xact"]) {
    if (directory.lstat(name) === undefined) fail(`${name} is missing`);
  }
  majorOf(directory);
  using global = directory.directory("global");
  const control = global.lstat("pg_control");
  if (control === undefined) fail("global/pg_control is missing");
  if (control?.size !== PG_CONTROL_FILE_SIZE) {
    fail(`global/pg_control has ${control?.size} bytes, expected ${PG_CONTROL_FILE_SIZE}`);
  }
  if (content === "lazy" && directory.lstat(RELATION_MANIFEST_FILE) === undefined) {
    fail(`${RELATION_MANIFEST_FILE} is missing`);
  }
  using wal = directory.directory("pg_wal");
  if (!wal.names().some((name) => /^[0-9A-F]{24}$/.test(name))) fail("pg_wal holds no segment");
}
