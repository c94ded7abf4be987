/** The files of one backup in a pgBackRest repository: a full one, or what builds on it. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { number, object, optional, safeParse, string } from "valibot";
import { errorMessage, ZenithError } from "../../common/errors.ts";
import type { Lsn } from "../../common/lsn.ts";
import { type Compression, COMPRESSIONS, decompress } from "../compression/decompress.ts";
import { collect, fileBytes, type FileRange } from "../compression/file_bytes.ts";
import { type MappedBlock, parseBlockMap, type SuperBlock } from "./block_map.ts";
import { decrypt } from "./cipher.ts";
import type { InfoFile } from "./info_file.ts";

/** In the manifest, the size of a block is given in pages. */
const BLOCK_FACTOR_BYTES = 8192;
const CHECKSUM_BYTES_DEFAULT = 6;
const BLOCK_MAP_MAX_BYTES = 1 << 28;
/** The largest that pgBackRest makes has some megabytes. */
const SUPER_BLOCK_MAX_BYTES = 1 << 28;

const DATA_PREFIX = "pg_data/";
const TABLESPACE_PREFIX = "pg_tblspc/";

/** A file of the cluster. */
export interface BackupFileContent {
  /** Relative to the data directory, with tablespaces below `pg_tblspc`. */
  readonly name: string;
  readonly size: number;
  /** SHA-1, hexadecimal. Undefined for an empty file. */
  readonly checksum: string | undefined;
  /**
   * Compared with the checksum once it has been read. It can be read again.
   *
   * @throws {ZenithError} `corrupt_data` when the file is damaged; `not_found` when it is missing
   */
  readonly content: AsyncIterable<Uint8Array>;
}

export interface RepositoryBackupParts {
  /** Where the stanza's backups are. */
  readonly directory: string;
  readonly label: string;
  readonly manifest: InfoFile;
  /** What opens the backup's files. */
  readonly passphrase: string | undefined;
  /** The names of the first and the last WAL segment that it needs. */
  readonly archiveStart: string;
  readonly archiveStop: string;
  readonly stopLsn: Lsn;
  readonly stoppedAt: Date;
  /** Whether pgBackRest found pages with wrong checksums in it. */
  readonly hasPageErrors: boolean;
}

const FileSchema = object({
  bi: optional(number()),
  bic: optional(number()),
  bim: optional(number()),
  bni: optional(number()),
  bno: optional(number()),
  checksum: optional(string()),
  reference: optional(string()),
  "repo-size": optional(number()),
  size: number(),
});

interface RepositoryFile {
  /** As in the manifest. */
  readonly path: string;
  readonly sizeBytes: number;
  /** SHA-1, hexadecimal. Undefined for an empty file. */
  readonly checksum: string | undefined;
  /** The backup that it is in. */
  readonly label: string;
  /** 0 when it is a file of its own. */
  readonly bundleId: number;
  readonly offset: number;
  readonly storedBytes: number;
  /** Null when it is stored whole. */
  readonly blocks:
    | { readonly bytes: number; readonly checksumBytes: number; readonly mapBytes: number }
    | null;
}

export class RepositoryBackup {
  readonly label: string;
  readonly archiveStart: string;
  readonly archiveStop: string;
  readonly stopLsn: Lsn;
  readonly stoppedAt: Date;
  readonly hasPageErrors: boolean;
  readonly systemId: string;
  readonly #directory: string;
  readonly #manifest: InfoFile;
  readonly #passphrase: string | undefined;
  readonly #compression: Compression;
  /** Whether what is in bundles has no headers. */
  readonly #bundleIsRaw: boolean;
  /** The backups that the block maps speak of. */
  readonly #references: readonly string[];

  /** @throws {ZenithError} `corrupt_data`; `not_implemented` for a compression that is not known */
  constructor(parts: RepositoryBackupParts) {
    const { manifest } = parts;
    this.label = parts.label;
    this.archiveStart = parts.archiveStart;
    this.archiveStop = parts.archiveStop;
    this.stopLsn = parts.stopLsn;
    this.stoppedAt = parts.stoppedAt;
    this.hasPageErrors = parts.hasPageErrors;
    this.#directory = parts.directory;
    this.#manifest = manifest;
    this.#passphrase = parts.passphrase;
    this.systemId = manifest.json("backup:db", "db-system-id");
    this.#compression = compressionIn(manifest);
    this.#bundleIsRaw = manifest.value("backup", "backup-bundle-raw") === true;
    const references = manifest.value("backup", "backup-reference");
    this.#references = typeof references === "string" ? references.split(",") : [parts.label];
  }

  /** Where tablespaces were, by their oid. */
  tablespaces(): Map<number, string> {
    const locations = new Map<number, string>();
    for (const [name, value] of this.#manifest.entries("backup:target")) {
      const oid = /^pg_tblspc\/([1-9]\d{0,9})$/.exec(name)?.[1];
      const target = safeParse(object({ path: string() }), value);
      if (oid !== undefined && target.success) locations.set(Number(oid), target.output.path);
    }
    return locations;
  }

  /**
   * Lists all files, as they lie in the repository. They can be read in any order.
   *
   * @throws {ZenithError} `corrupt_data` when the manifest is damaged
   */
  files(): BackupFileContent[] {
    const files = [...this.#manifest.entries("target:file")].map(([path, value]) => this.#file(path, value));
    // As they lie in the bundles.
    const order = (a: RepositoryFile, b: RepositoryFile) =>
      compare(a.label, b.label) || a.bundleId - b.bundleId || a.offset - b.offset || compare(a.path, b.path);
    return files.sort(order).map((file) => ({
      name: file.path.startsWith(DATA_PREFIX) ? file.path.slice(DATA_PREFIX.length) : file.path,
      size: file.sizeBytes,
      checksum: file.checksum,
      content: { [Symbol.asyncIterator]: () => this.#verified(file) },
    }));
  }

  #file(path: string, value: unknown): RepositoryFile {
    const parsed = safeParse(FileSchema, value);
    const isInside = path.startsWith(DATA_PREFIX) || path.startsWith(TABLESPACE_PREFIX);
    if (!parsed.success || !isInside || path.split("/").includes("..")) {
      throw new ZenithError("corrupt_data", `${this.#manifest.where} is damaged: it has a file ${path}`);
    }
    const entry = parsed.output;
    const { bi, bic, bim } = entry;
    return {
      path,
      sizeBytes: entry.size,
      checksum: entry.checksum,
      label: entry.reference ?? this.label,
      bundleId: entry.bni ?? 0,
      offset: entry.bno ?? 0,
      storedBytes: entry["repo-size"] ?? entry.size,
      blocks: bi === undefined || bim === undefined
        ? null
        : { bytes: bi * BLOCK_FACTOR_BYTES, checksumBytes: bic ?? CHECKSUM_BYTES_DEFAULT, mapBytes: bim },
    };
  }

  async *#verified(file: RepositoryFile): AsyncGenerator<Uint8Array> {
    const hash = createHash("sha1");
    let length = 0;
    try {
      if (file.sizeBytes > 0) {
        for await (const bytes of this.#content(file)) {
          hash.update(bytes);
          length += bytes.length;
          if (length > file.sizeBytes) break;
          yield bytes;
        }
      }
    } catch (error) {
      if (error instanceof ZenithError && error.kind !== "corrupt_data") throw error;
      throw this.#damaged(file, `can't be unpacked: ${errorMessage(error)}`, error);
    }
    if (length !== file.sizeBytes) {
      throw this.#damaged(
        file,
        `has ${length > file.sizeBytes ? "more" : "less"} than its ${file.sizeBytes} bytes`,
      );
    }
    const found = hash.digest("hex");
    if (file.checksum !== undefined && found !== file.checksum) {
      throw this.#damaged(file, `has the SHA1 checksum ${found}, expected ${file.checksum}`);
    }
  }

  #content(file: RepositoryFile): AsyncIterable<Uint8Array> {
    if (file.blocks !== null) return this.#blocks(file, file.blocks);
    const isRaw = file.bundleId !== 0 && this.#bundleIsRaw;
    const range = file.bundleId === 0
      ? undefined
      : { start: file.offset, end: file.offset + file.storedBytes };
    return decompress(this.#stored(file.label, file, range, isRaw), this.#compression, isRaw);
  }

  async *#blocks(
    file: RepositoryFile,
    { bytes, checksumBytes, mapBytes }: NonNullable<RepositoryFile["blocks"]>,
  ) {
    const end = file.offset + file.storedBytes;
    const range = { start: end - mapBytes, end };
    const map = await collect(this.#stored(file.label, file, range, true), BLOCK_MAP_MAX_BYTES, file.path);
    const blocks = parseBlockMap(map, bytes, checksumBytes, file.sizeBytes, file.path);
    // A map goes through each backup's super blocks in order, so the last of each is enough.
    const unpacked = new Map<number, { readonly of: SuperBlock; readonly content: Uint8Array }>();
    for (const { in: superBlock, number } of blocks) {
      let last = unpacked.get(superBlock.reference);
      if (last?.of !== superBlock) {
        last = { of: superBlock, content: await this.#superBlock(file, superBlock) };
        unpacked.set(superBlock.reference, last);
      }
      yield last.content.subarray(number * bytes, (number + 1) * bytes);
    }
  }

  async #superBlock(file: RepositoryFile, block: MappedBlock["in"]): Promise<Uint8Array> {
    const label = this.#references[block.reference];
    if (label === undefined) throw this.#damaged(file, "has blocks in a backup that is not named");
    const range = { start: block.offset, end: block.offset + block.storedBytes };
    const where = { ...file, bundleId: block.bundleId };
    const stored = this.#stored(label, where, range, true);
    return await collect(decompress(stored, this.#compression, true), SUPER_BLOCK_MAX_BYTES, file.path);
  }

  /** What a stored file has there, decrypted. */
  #stored(
    label: string,
    { path, bundleId, blocks }: RepositoryFile,
    range: FileRange | undefined,
    isRaw: boolean,
  ): AsyncIterable<Uint8Array> {
    if (!/^[\w-]+$/.test(label)) {
      throw new ZenithError("corrupt_data", `${this.#manifest.where} is damaged: it names ${label}`);
    }
    const suffix = blocks !== null ? ".pgbi" : this.#compression === "none" ? "" : `.${this.#compression}`;
    const stored = join(this.#directory, label, bundleId === 0 ? path + suffix : `bundle/${bundleId}`);
    const bytes = fileBytes(stored, range);
    return this.#passphrase === undefined ? bytes : decrypt(bytes, this.#passphrase, isRaw, stored);
  }

  #damaged({ path }: RepositoryFile, what: string, cause?: unknown): ZenithError {
    return new ZenithError("corrupt_data", `backup ${this.label} is damaged: ${path} ${what}`, {
      hint: "pgbackrest verify says what else is; import another backup",
      cause,
    });
  }
}

function compressionIn(manifest: InfoFile): Compression {
  const name = manifest.value("backup:option", "option-compress-type") ??
    (manifest.value("backup:option", "option-compress") === true ? "gz" : "none");
  const found = ["none", ...COMPRESSIONS].find((known) => known === name);
  if (found !== undefined) return found as Compression;
  throw new ZenithError("not_implemented", `${manifest.where} has the compression ${String(name)}`, {
    hint: `known are ${COMPRESSIONS.join(", ")}`,
  });
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
