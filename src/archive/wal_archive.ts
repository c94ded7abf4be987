/**
 * A WAL archive in a directory: segments side by side as `archive_command = 'cp …'` leaves them, or
 * in a folder for each 256 of them as pgBackRest and barman have them; compressed, encrypted, or
 * neither.
 */
import { createHash } from "node:crypto";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { ioError, systemErrorCode, ZenithError } from "../common/errors.ts";
import type { Lsn } from "../common/lsn.ts";
import { walFileName } from "../postgres/wal/page_header.ts";
import { COMPRESSIONS, decompressAny } from "./compression/decompress.ts";
import { collect, fileBytes } from "./compression/file_bytes.ts";
import { decrypt } from "./pgbackrest/cipher.ts";
import {
  type LeftTimeline,
  parseHistory,
  stretchesOfSegment,
  type TimelineStretch,
} from "./timeline_history.ts";

/** The digits of a segment's name. */
const SEGMENT_DIGITS = 24;
/** The folder of a segment has this many of the digits of its name. */
const FOLDER_DIGITS = 16;
const FOLDER = /^[0-9A-F]{16}$/;

/** The extension of a compressed file. */
const EXTENSION = `(?:\\.(?:${COMPRESSIONS.join("|")}))?`;
const HISTORY = new RegExp(`^([0-9A-F]{8})\\.history${EXTENSION}$`);
/** What comes after a segment's name: pgBackRest's checksum of it, and the compression. */
const SUFFIX = `(?:-([0-9a-f]{40}))?${EXTENSION}`;
const SEGMENT_SUFFIX = new RegExp(`^${SUFFIX}$`);
const SEGMENT = new RegExp(`^[0-9A-F]{24}${SUFFIX}$`);

const HISTORY_MAX_BYTES = 1 << 20;

/** A directory that was changed so long ago has another time after the next change. */
const SETTLED_MS = 2_000;

export class WalArchive {
  readonly directory: string;
  readonly #passphrase: string | undefined;
  /** What the directory had when it was last changed. */
  #listed: { readonly mtimeMs: number; readonly names: readonly string[] } | null = null;
  readonly #histories = new Map<string, { readonly tli: number; readonly left: readonly LeftTimeline[] }>();

  /** @param passphrase opens pgBackRest's files; undefined when they are not encrypted */
  constructor(directory: string, passphrase?: string) {
    this.directory = directory;
    this.#passphrase = passphrase;
  }

  /** The histories that are there, by timeline. @throws {ZenithError} `not_found`, `io` */
  async histories(): Promise<Map<number, readonly LeftTimeline[]>> {
    const found = new Map<number, readonly LeftTimeline[]>();
    for (const name of await this.#names()) {
      const hex = HISTORY.exec(name)?.[1];
      if (hex === undefined) continue;
      let known = this.#histories.get(name);
      if (known === undefined) {
        const path = join(this.directory, name);
        const text = await collect(this.#content(path), HISTORY_MAX_BYTES, path);
        const left = parseHistory(text.toString());
        // It may have been looked at while it was written.
        if (left.length === 0) continue;
        this.#histories.set(name, known = { tli: parseInt(hex, 16), left });
      }
      found.set(known.tli, known.left);
    }
    return found;
  }

  /**
   * Looks for a segment.
   *
   * @param name its 24 digits
   * @returns null when it is not there
   * @throws {ZenithError} `io`
   */
  async find(name: string): Promise<string | null> {
    const folder = join(this.directory, name.slice(0, FOLDER_DIGITS));
    for (const other of await names(folder, false)) {
      if (other.startsWith(name) && SEGMENT_SUFFIX.test(other.slice(name.length))) return join(folder, other);
    }
    for (const suffix of ["", ...COMPRESSIONS.map((compression) => `.${compression}`)]) {
      const path = join(this.directory, name + suffix);
      if (await isFile(path)) return path;
    }
    return null;
  }

  /**
   * Looks for a segment of each timeline that the way leads through there, the newest first.
   *
   * @returns the file, and where its timeline is left for the next one; null when it is not there
   * @throws {ZenithError} `io`
   */
  async findOnWay(
    way: readonly TimelineStretch[],
    lsn: Lsn,
    segmentSize: number,
  ): Promise<{ readonly path: string; readonly leftAt: Lsn | null } | null> {
    for (const { tli, leftAt } of stretchesOfSegment(way, lsn, segmentSize)) {
      const path = await this.find(walFileName(tli, lsn, segmentSize));
      if (path !== null) return { path, leftAt };
    }
    return null;
  }

  /** Whether the archive has what a failover left of a segment, which nothing reads. */
  async hasPartial(name: string): Promise<boolean> {
    const start = `${name}.partial`;
    const beside = await names(join(this.directory, name.slice(0, FOLDER_DIGITS)), false);
    return beside.some((other) => other.startsWith(start)) || await isFile(join(this.directory, start));
  }

  /**
   * Returns the names of the first and the last segment of a timeline. Null when there is none.
   *
   * @throws {ZenithError} `not_found`, `io`
   */
  async segmentsOf(tli: number): Promise<{ readonly first: string; readonly last: string } | null> {
    const prefix = tli.toString(16).toUpperCase().padStart(8, "0");
    const all = (await this.#names()).filter((name) => name.startsWith(prefix));
    const flat = segmentsIn(all);
    const folders = all.filter((name) => FOLDER.test(name)).sort();
    const early = [...flat, ...await this.#segmentsInFirst(folders)];
    const late = [...flat, ...await this.#segmentsInFirst(folders.toReversed())];
    if (early.length === 0) return null;
    return {
      first: early.reduce((a, b) => a < b ? a : b),
      last: late.reduce((a, b) => a > b ? a : b),
    };
  }

  /** The names in the directory, which may be a hundred thousand. */
  async #names(): Promise<readonly string[]> {
    const { mtimeMs } = await stat(this.directory).catch((error) => {
      if (systemErrorCode(error) !== "ENOENT") throw ioError("look for", this.directory, error);
      throw new ZenithError("not_found", `there is no directory ${this.directory}`);
    });
    if (this.#listed?.mtimeMs === mtimeMs) return this.#listed.names;
    // What comes within a tick of the file system's clock does not change the time again.
    const isSettled = Date.now() - mtimeMs > SETTLED_MS;
    const found = await names(this.directory, true);
    this.#listed = isSettled ? { mtimeMs, names: found } : null;
    return found;
  }

  /** The segments in the first of the folders that has any. */
  async #segmentsInFirst(folders: readonly string[]): Promise<string[]> {
    for (const folder of folders) {
      const found = segmentsIn(await names(join(this.directory, folder), false));
      if (found.length > 0) return found;
    }
    return [];
  }

  /**
   * Yields a segment's content.
   *
   * @param path as {@link find} returns it
   * @throws {Error} when it can't be unpacked; {@link ZenithError} `corrupt_data`, `io`
   */
  async *read(path: string): AsyncGenerator<Uint8Array> {
    const stated = SEGMENT_SUFFIX.exec(path.slice(path.lastIndexOf("/") + 1 + SEGMENT_DIGITS))?.[1];
    const hash = createHash("sha1");
    for await (const bytes of this.#content(path)) {
      if (stated !== undefined) hash.update(bytes);
      yield bytes;
    }
    const found = stated === undefined ? undefined : hash.digest("hex");
    if (found === stated) return;
    throw new ZenithError("corrupt_data", `${path} has the SHA1 checksum ${found}`);
  }

  #content(path: string): AsyncIterable<Uint8Array> {
    const bytes = fileBytes(path);
    return decompressAny(
      this.#passphrase === undefined ? bytes : decrypt(bytes, this.#passphrase, false, path),
    );
  }
}

/** The segments that files are of, by their names. Other files are left out. */
function segmentsIn(names: readonly string[]): string[] {
  return names.filter((name) => SEGMENT.test(name)).map((name) => name.slice(0, SEGMENT_DIGITS));
}

async function names(directory: string, mustExist: boolean): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    const code = systemErrorCode(error);
    if (code !== "ENOENT" && code !== "ENOTDIR") throw ioError("list", directory, error);
    if (!mustExist) return [];
    throw new ZenithError("not_found", `there is no directory ${directory}`);
  }
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile();
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return false;
    throw ioError("look for", path, error);
  }
}
