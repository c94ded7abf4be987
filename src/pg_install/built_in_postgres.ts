/**
 * The PostgreSQL installations inside the executable, one for each major that its build named with
 * `--with-postgres`. Each is unpacked into a cache directory at its first use.
 * `docs/formats/built_in_postgres.md` describes their form.
 */
import {
  chmodSync,
  closeSync,
  existsSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeSync,
} from "node:fs";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { zstdDecompressSync } from "node:zlib";
import { array, type InferOutput, number, object, optional, parse, string } from "valibot";
import { ioError, ZenithError } from "../common/errors.ts";

/** Where `bun build --compile --asset` puts them, in a directory for each major. */
const INSIDE = "/$bunfs/root/built_in_postgres";

const FileSchema = object({
  /** Relative to the directory above `bin`. */
  path: string(),
  mode: number(),
  size: number(),
  /** The target, if it is a symbolic link. */
  link: optional(string()),
});

const ContentsSchema = object({
  version: string(),
  /** The SHA-256 of all files' bytes, one after another. */
  sha256: string(),
  files: array(FileSchema),
});

/** The list of an installation's files. */
export type PostgresContents = InferOutput<typeof ContentsSchema>;

/**
 * A major's two files: {@link PostgresContents}, and the bytes of all its files, one after another,
 * compressed by zstd.
 */
export const CONTENTS_FILE = "contents.json";
export const BYTES_FILE = "files.zst";

/**
 * Unpacks a major, so that it can be run.
 *
 * @param root where the majors' directories are; inside the executable by default
 * @returns the directory above its `bin`; undefined when the executable does not contain this major
 * @throws {ZenithError} `io`, `disk_full`, `corrupt_data` when the executable is damaged
 */
export function prepareBuiltIn(major: number, root = INSIDE, cache = cacheDirectory()): string | undefined {
  const inside = join(root, String(major));
  if (!existsSync(join(inside, CONTENTS_FILE))) return undefined;
  const contents = parse(ContentsSchema, JSON.parse(readFileSync(join(inside, CONTENTS_FILE), "utf8")));
  const target = join(cache, `postgresql-${contents.version}-${contents.sha256.slice(0, 16)}`);
  if (isComplete(target, contents)) return target;
  const unfinished = `${target}.${process.pid}`;
  try {
    unpack(inside, contents, unfinished);
    install(unfinished, target, contents);
  } catch (error) {
    if (error instanceof ZenithError) throw error;
    const { kind, message } = ioError("unpack the built-in PostgreSQL to", target, error);
    throw new ZenithError(kind, message, {
      hint: `make room or give access there, or choose another place with XDG_CACHE_HOME`,
      cause: error,
    });
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
  return target;
}

/**
 * The cache directory. For root it is not in the home directory, which is closed to the user that
 * Postgres runs as.
 */
function cacheDirectory(): string {
  const configured = process.env["XDG_CACHE_HOME"];
  if (configured !== undefined && configured !== "") return join(resolve(configured), "zenith");
  return process.getuid?.() === 0 ? "/var/cache/zenith" : join(homedir(), ".cache", "zenith");
}

/**
 * Whether all unpacked files are there with their sizes and modes. Cache cleaners and full disks
 * leave only some of them.
 */
function isComplete(directory: string, { files }: PostgresContents): boolean {
  return files.every(({ path, size, link, mode }) => {
    const found = lstatSync(join(directory, path), { throwIfNoEntry: false });
    if (found === undefined) return false;
    if (link !== undefined) return found.isSymbolicLink() && readlinkSync(join(directory, path)) === link;
    return found.isFile() && found.size === size && (found.mode & 0o777) === mode;
  });
}

function unpack(inside: string, contents: PostgresContents, directory: string): void {
  const bytes = zstdDecompressSync(readFileSync(join(inside, BYTES_FILE)));
  const expected = contents.files.reduce((sum, { size, link }) => sum + (link === undefined ? size : 0), 0);
  if (bytes.length !== expected) {
    throw new ZenithError(
      "corrupt_data",
      `the built-in PostgreSQL has ${bytes.length} bytes, expected ${expected}: this executable is damaged`,
      { hint: "get it anew" },
    );
  }
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  const directories = new Set([directory]);
  let offset = 0;
  for (const { path, mode, size, link } of contents.files) {
    const file = join(directory, path);
    for (let dir = dirname(file); !directories.has(dir); dir = dirname(dir)) {
      mkdirSync(dir, { recursive: true, mode: 0o755 });
      directories.add(dir);
    }
    if (link !== undefined) {
      symlinkSync(link, file);
      continue;
    }
    writeFile(file, bytes.subarray(offset, offset + size), mode);
    offset += size;
  }
  // Set the mode regardless of the umask, because the user that Postgres runs as must be able to
  // enter.
  for (const dir of directories) chmodSync(dir, 0o755);
  for (const dir of directories) fsyncPath(dir);
}

function writeFile(file: string, bytes: Uint8Array, mode: number): void {
  const fd = openSync(file, "wx", mode);
  try {
    for (let written = 0; written < bytes.length;) written += writeSync(fd, bytes, written);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  chmodSync(file, mode);
}

function fsyncPath(path: string): void {
  const fd = openSync(path, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/**
 * Moves the unpacked files into place, unless another process was faster. A damaged directory is
 * moved away and not changed, because it may be in use.
 */
function install(unfinished: string, target: string, contents: PostgresContents): void {
  for (let attempt = 0;; attempt++) {
    try {
      renameSync(unfinished, target);
      fsyncPath(dirname(target));
      return;
    } catch (error) {
      if (isComplete(target, contents)) return;
      const damaged = `${unfinished}.damaged`;
      if (attempt > 0 || !existsSync(target)) throw error;
      renameSync(target, damaged);
      rmSync(damaged, { recursive: true, force: true });
    }
  }
}
