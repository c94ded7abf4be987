/**
 * Makes a compute's data directory from a basebackup: a tar with everything but the configuration files.
 * Local data of an earlier run is never reused.
 */
import {
  chownSync,
  closeSync,
  existsSync,
  fchownSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { ioError, ZenithError } from "../../common/errors.ts";
import { POSTGRES_MAJOR } from "../../pg_install/find_postgres.ts";
import type { PgUser } from "../../pg_install/pg_user.ts";
import { RELATION_MANIFEST_FILE } from "../../protocol/relation_manifest.ts";
import { type TarEntry, type TarHandler, TarReader } from "../../protocol/tar.ts";
import type { BasebackupContent } from "../../protocol/management.ts";

/** What is the user's, and what PostgreSQL keeps about statistics, stays. */
const KEPT = new Set(["pg_hba.conf", "pg_ident.conf", "pg_stat"]);

/** Statistics are this compute's own: a basebackup's are not taken. */
const STATISTICS = "pg_stat/";

/**
 * What PostgreSQL puts into a data directory; and the list of a lazy compute's files, there from a start that was broken off. Other
 * files, certificates for example, are the user's.
 */
const OURS = new RegExp(
  "^(?:base|global|pg_.*|PG_VERSION|postmaster\\..*|backup_(?:label|manifest).*|tablespace_map.*|.*\\.signal|" +
    `current_logfiles.*|${RELATION_MANIFEST_FILE})$`,
);

/** `PG_CONTROL_FILE_SIZE` (catalog/pg_control.h). */
const CONTROL_FILE_BYTES = 8192;

/** PostgreSQL refuses a data directory that others may read. */
const DIRECTORY_MODE = 0o700;
const FILE_MODE = 0o600;

export interface DataDirectoryProgress {
  readonly files: number;
  readonly bytes: number;
}

/** Removes all that an earlier run left, but the configuration. */
export function clearDataDirectory(pgdata: string): void {
  try {
    for (const name of readdirSync(pgdata)) {
      if (OURS.test(name) && !KEPT.has(name)) {
        rmSync(join(pgdata, name), { recursive: true, force: true });
      }
    }
  } catch (error) {
    throw ioError("clear", pgdata, error);
  }
}

/**
 * Unpacks a basebackup as it arrives; at no time is more of it in memory than a chunk of the stream.
 *
 * @param owner who the files are given to
 * @param onProgress called after every file
 * @param content what the basebackup was asked to hold
 * @returns how much it was
 * @throws {ZenithError} `protocol` when the tar is cut short or holds what a data directory may not, `disk_full`, `io`; errors of `tar` itself
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
  return files.written;
}

/** Makes the files and directories of a basebackup. */
class FileWriter implements TarHandler {
  readonly #pgdata: string;
  readonly #owner: PgUser | undefined;
  readonly #onProgress: (progress: DataDirectoryProgress) => void;
  #files = 0;
  #bytes = 0;
  /** The file that is being written; null between files, and in one that is not taken. */
  #file: { readonly fd: number; readonly path: string } | null = null;

  constructor(
    pgdata: string,
    owner: PgUser | undefined,
    onProgress: (progress: DataDirectoryProgress) => void,
  ) {
    this.#pgdata = pgdata;
    this.#owner = owner;
    this.#onProgress = onProgress;
  }

  get written(): DataDirectoryProgress {
    return { files: this.#files, bytes: this.#bytes };
  }

  begin(entry: TarEntry): void {
    const name = safeRelativePath(entry.name);
    const path = join(this.#pgdata, name);
    if (entry.type === "directory") makeDirectory(path, this.#owner);
    else if (!name.startsWith(STATISTICS)) this.#create(path);
  }

  #create(path: string): void {
    try {
      const fd = openSync(path, "wx", FILE_MODE);
      this.#file = { fd, path };
      if (this.#owner !== undefined) fchownSync(fd, this.#owner.uid, this.#owner.gid);
    } catch (error) {
      throw ioError("create", path, error);
    }
  }

  content(bytes: Uint8Array): void {
    if (this.#file === null) return;
    writeAll(this.#file.fd, bytes, this.#file.path);
    this.#bytes += bytes.length;
  }

  end(): void {
    if (this.#file === null) return;
    this.close();
    this.#files++;
    this.#onProgress(this.written);
  }

  /** Closes the file that is being written, complete or not. */
  close(): void {
    if (this.#file === null) return;
    const { fd } = this.#file;
    this.#file = null;
    closeSync(fd);
  }
}

function writeAll(fd: number, bytes: Uint8Array, path: string): void {
  try {
    for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at, bytes.length - at);
  } catch (error) {
    throw ioError("write", path, error);
  }
}

function makeDirectory(path: string, owner: PgUser | undefined): void {
  try {
    mkdirSync(path, { recursive: true, mode: DIRECTORY_MODE });
    if (owner !== undefined) chownSync(path, owner.uid, owner.gid);
  } catch (error) {
    throw ioError("create directory", path, error);
  }
}

/** @throws {ZenithError} `protocol` when the name would lead out of the data directory or replace the configuration */
function safeRelativePath(name: string): string {
  const path = name.replace(/\/$/, "").replace(/^\.\//, "");
  const parts = path.split("/");
  const escapes = path.includes("\0") || parts.some((part) => part === ".." || part === "" || part === ".");
  if (path !== "." && (escapes || KEPT.has(path) && path !== "pg_stat")) {
    throw new ZenithError("protocol", `basebackup: "${name}" is not a name inside a data directory`);
  }
  return path;
}

function assertComplete(pgdata: string, content: BasebackupContent): void {
  const fail = (what: string) => {
    throw new ZenithError("protocol", `the basebackup is not a complete data directory: ${what}`);
  };
  for (const name of ["PG_VERSION", "global/pg_control", "base", "pg_wal", "pg_xact"]) {
    if (!existsSync(join(pgdata, name))) fail(`${name} is missing`);
  }
  const version = readFileSync(join(pgdata, "PG_VERSION"), "utf8").trim();
  if (version !== String(POSTGRES_MAJOR)) {
    fail(`PG_VERSION is ${version}, this Zenith runs PostgreSQL ${POSTGRES_MAJOR}`);
  }
  const controlBytes = statSync(join(pgdata, "global/pg_control")).size;
  if (controlBytes !== CONTROL_FILE_BYTES) {
    fail(`global/pg_control has ${controlBytes} bytes, expected ${CONTROL_FILE_BYTES}`);
  }
  if (content === "lazy") {
    if (!existsSync(join(pgdata, RELATION_MANIFEST_FILE))) fail(`${RELATION_MANIFEST_FILE} is missing`);
  } else if (!readdirSync(join(pgdata, "pg_wal")).some((name) => /^[0-9A-F]{24}$/.test(name))) {
    fail("pg_wal holds no segment");
  }
}
