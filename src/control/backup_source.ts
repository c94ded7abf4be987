/**
 * The files of a cluster or of a backup of one, wherever they are: a data directory, a directory
 * of tars, one tar, or standard input.
 */
import { statSync } from "node:fs";
import { join } from "node:path";
import { ZenithError } from "../common/errors.ts";
import { BACKUP_MANIFEST_FILE } from "../postgres/cluster/backup_files.ts";
import { listed, readCluster, readFiles } from "./backup_directory.ts";
import { readTar, readTarFile, TAR_NAME } from "./backup_tar.ts";
import type { SourceFile } from "./source_file.ts";

/** Means standard input. */
const STDIN = "-";

/**
 * Yields the files at `path`, one at a time.
 *
 * @param path a data directory, a directory of tars, a tar, or `-` for standard input
 * @param walDirectory has more WAL segments of the same cluster, as an archive has; undefined for
 *   none
 * @throws {ZenithError} `not_found`, `invalid_argument`, `corrupt_data`, `conflict`, `io`
 */
export async function* readBackup(path: string, walDirectory?: string): AsyncGenerator<SourceFile> {
  const segments = new Set<string>();
  for await (const file of readBase(path)) {
    segments.add(file.name);
    yield file;
  }
  if (walDirectory === undefined) return;
  const isMissing = (name: string) => /^[0-9A-F]{24}$/.test(name) && !segments.has(`pg_wal/${name}`);
  yield* readFiles(walDirectory, "pg_wal/", isMissing);
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
