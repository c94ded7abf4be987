/**
 * The files of a cluster or of a backup of one, wherever they are: a data directory, a directory
 * of tars, one tar, or standard input.
 */
import { statSync } from "node:fs";
import { join } from "node:path";
import { readArchivedWal, type WantedWal } from "../archive/archived_wal.ts";
import { ZenithError } from "../common/errors.ts";
import type { RepositoryBackup } from "../archive/pgbackrest/repository_backup.ts";
import type { WalArchive } from "../archive/wal_archive.ts";
import { BACKUP_LABEL_FILE, BACKUP_MANIFEST_FILE } from "../postgres/cluster/backup_files.ts";
import { CONTROL_FILE_PATH } from "../postgres/control_file.ts";
import { encodeTablespaceMap, TABLESPACE_MAP_FILE } from "../protocol/tablespace_map.ts";
import {
  firstSegmentOfControlFile,
  firstSegmentOfLabel,
  listed,
  readCluster,
  readFiles,
} from "./backup_directory.ts";
import { readTar, readTarFile, TAR_NAME } from "./backup_tar.ts";
import { readIncremental } from "./incremental_backup.ts";
import { fileOfBytes, type SourceFile } from "./source_file.ts";

/** Means standard input. */
const STDIN = "-";

/** The first of them that is there does. */
const SAY_WHERE_WAL_BEGINS = [BACKUP_LABEL_FILE, CONTROL_FILE_PATH];

/** The files of a cluster or a backup, and who compares them with their checksums. */
export interface BackupSource {
  readonly files: AsyncIterable<SourceFile>;
  /**
   * `reader`: all have been compared where they come from. `chain`: so have those of the newest
   * backup; of those before, the sizes. `manifest`: they may have one.
   */
  readonly checkedBy: "reader" | "chain" | "manifest";
}

/**
 * Reads the files at `path`.
 *
 * @param path a data directory, a directory of tars, a tar, or `-` for standard input
 * @param wal has more WAL of the same cluster; undefined for none
 * @param until how far that WAL is taken
 * @throws {ZenithError} `not_found`, `invalid_argument`, `corrupt_data`, `conflict`, `io`, when
 *   they are read
 */
export function openBackup(
  path: string,
  wal: WalArchive | undefined,
  until: WantedWal["until"] = "end of archive",
): BackupSource {
  return { files: readBackup(readBase(path), wal, until), checkedBy: "manifest" };
}

/**
 * Reads incremental backups together with the one that they build on, as {@link openBackup} does
 * others.
 *
 * @param directories a full backup, and the incremental ones after it, oldest first
 */
export function openIncrementalBackup(
  directories: readonly string[],
  wal: WalArchive | undefined,
): BackupSource {
  return { files: readBackup(readIncremental(directories), wal, "end of archive"), checkedBy: "chain" };
}

/** Reads a backup of a pgBackRest repository, with its WAL, as {@link openBackup} does others. */
export function openRepositoryBackup(
  backup: RepositoryBackup,
  wal: WalArchive,
  until: WantedWal["until"] = "end of archive",
): BackupSource {
  return { files: readRepositoryBackup(backup, wal, until), checkedBy: "reader" };
}

async function* readRepositoryBackup(
  backup: RepositoryBackup,
  wal: WalArchive,
  until: WantedWal["until"],
): AsyncGenerator<SourceFile> {
  for (const file of backup.files()) {
    // The manifest says where tablespaces were, in every version.
    if (file.name !== TABLESPACE_MAP_FILE) yield file;
  }
  yield fileOfBytes(TABLESPACE_MAP_FILE, encodeTablespaceMap(backup.tablespaces()));
  yield* readArchivedWal(wal, { first: backup.archiveStart, until, isThere: () => false });
}

async function* readBackup(
  base: AsyncIterable<SourceFile>,
  wal: WalArchive | undefined,
  until: WantedWal["until"],
): AsyncGenerator<SourceFile> {
  const segments = new Set<string>();
  const kept = new Map<string, Uint8Array[]>();
  for await (const file of base) {
    segments.add(file.name);
    if (wal === undefined || !SAY_WHERE_WAL_BEGINS.includes(file.name)) yield file;
    else {
      const parts: Uint8Array[] = [];
      kept.set(file.name, parts);
      yield { ...file, content: keeping(file.content, parts) };
    }
  }
  const first = wal === undefined ? null : firstWalSegment(kept);
  if (wal === undefined || first === null) return;
  yield* readArchivedWal(wal, { first, until, isThere: (name) => segments.has(`pg_wal/${name}`) });
}

/** Returns the name of the first WAL segment that is needed. Null when the files do not say. */
function firstWalSegment(kept: ReadonlyMap<string, readonly Uint8Array[]>): string | null {
  const [label, control] = SAY_WHERE_WAL_BEGINS.map((name) => kept.get(name));
  if (label !== undefined) return firstSegmentOfLabel(Buffer.concat(label).toString());
  return control === undefined ? null : firstSegmentOfControlFile(Buffer.concat(control));
}

async function* keeping(content: AsyncIterable<Uint8Array>, parts: Uint8Array[]): AsyncGenerator<Uint8Array> {
  for await (const bytes of content) {
    parts.push(Uint8Array.from(bytes));
    yield bytes;
  }
}

async function* readBase(path: string): AsyncGenerator<SourceFile> {
  if (path === STDIN) return yield* readTar(process.stdin, "standard input");
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) throw new ZenithError("not_found", `there is nothing at ${path}`);
  if (!stat.isDirectory()) return yield* readTarFile(path, "");
  const names = listed(path);
  const bases = names.filter((name) => TAR_NAME.test(name) && name.startsWith("base."));
  const isCluster = names.includes("PG_VERSION");
  const found = [...isCluster ? ["a data directory"] : [], ...bases];
  if (found.length === 0) {
    throw new ZenithError(
      "invalid_argument",
      `${path} is no backup: it has neither PG_VERSION nor base.tar`,
      {
        hint: "name a data directory, or where pg_basebackup has written to",
      },
    );
  }
  if (found.length > 1) {
    throw new ZenithError("invalid_argument", `${path} holds more than one backup: ${found.join(", ")}`, {
      hint: "put each in a directory of its own",
    });
  }
  if (isCluster) yield* readCluster(path);
  else yield* readTars(path, names);
}

/** Reads what `pg_basebackup -Ft` writes: base.tar, pg_wal.tar, and a tar for each tablespace. */
async function* readTars(path: string, names: readonly string[]): AsyncGenerator<SourceFile> {
  // The checksums come first, so that the files can be compared with them as they are read.
  yield* readFiles(path, "", (name) => name === BACKUP_MANIFEST_FILE);
  for (const name of names.filter((name) => TAR_NAME.test(name))) {
    const [stem] = name.split(".");
    const prefix = stem === "base" ? "" : stem === "pg_wal" ? "pg_wal/" : `pg_tblspc/${stem}/`;
    yield* readTarFile(join(path, name), prefix);
  }
}
