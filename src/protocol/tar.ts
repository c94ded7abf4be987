/**
 * The part of the tar format that a data directory needs on its way to a compute: regular files and
 * directories with names of up to 100 bytes. Both sides work on the bytes in place: a database of
 * 5,000 tables has 20,000 files, most of which have one page or none.
 *
 * Format: ustar, pax(1) of POSIX.1-2017.
 */
import { assert } from "../common/assert.ts";
import { ZenithError } from "../common/errors.ts";

/**
 * The block size. An entry is a header of one block, then its content in as many blocks as it
 * needs.
 */
export const TAR_BLOCK_BYTES = 512;

/** The end of an archive: two blocks of zeros. */
export const TAR_END_BYTES = 2 * TAR_BLOCK_BYTES;

const NAME_BYTES = 100;
const OFFSET_MODE = 100;
const OFFSET_UID = 108;
const OFFSET_GID = 116;
const OFFSET_SIZE = 124;
const OFFSET_MTIME = 136;
const OFFSET_CHECKSUM = 148;
const OFFSET_TYPE = 156;
const OFFSET_MAGIC = 257;
/** The prefix of a name that is longer than its field. */
const OFFSET_PREFIX = 345;
/** "ustar", a zero and version "00". GNU tar writes something else after the word. */
const MAGIC = new TextEncoder().encode("ustar\x0000");
const MAGIC_WORD_BYTES = 5;

const DECODER = new TextDecoder();

/**
 * How many octal digits there are in a mode, uid or gid, in a size or time, and in a checksum. A
 * zero or a space ends them. PostgreSQL writes one more digit of a checksum.
 */
const SHORT_DIGITS = 7;
const LONG_DIGITS = 11;
const CHECKSUM_DIGITS = 6;

const SPACE = 0x20;
const DIGIT_0 = 0x30;

const TYPE_FILE = DIGIT_0;
const TYPE_DIRECTORY = DIGIT_0 + 5;

const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;

export interface TarEntry {
  readonly name: string;
  readonly type: "file" | "directory";
  /** The content's length in bytes, which may be more than 4 GiB. 0 for a directory. */
  readonly size: number;
}

/** The padding after content of `size` bytes, up to the next block. */
export function tarPadding(size: number): number {
  return (TAR_BLOCK_BYTES - size % TAR_BLOCK_BYTES) % TAR_BLOCK_BYTES;
}

/**
 * Writes an entry's header, one block, to `out` at `at`.
 *
 * @param entry its name must be ASCII, of at most 100 characters
 * @param mtime seconds since 1970
 */
export function writeTarHeader(out: Uint8Array, at: number, entry: TarEntry, mtime: number): void {
  const { name, type, size } = entry;
  assert(name.length > 0 && name.length <= NAME_BYTES, "a name in a data directory is short");
  out.fill(0, at, at + TAR_BLOCK_BYTES);
  for (let i = 0; i < name.length; i++) {
    const code = name.charCodeAt(i);
    assert(code > SPACE && code < 0x7f, "a name in a data directory is plain");
    out[at + i] = code;
  }
  writeOctal(out, at + OFFSET_MODE, SHORT_DIGITS, type === "file" ? FILE_MODE : DIRECTORY_MODE);
  writeOctal(out, at + OFFSET_UID, SHORT_DIGITS, 0);
  writeOctal(out, at + OFFSET_GID, SHORT_DIGITS, 0);
  writeOctal(out, at + OFFSET_SIZE, LONG_DIGITS, size);
  writeOctal(out, at + OFFSET_MTIME, LONG_DIGITS, mtime);
  out[at + OFFSET_TYPE] = type === "file" ? TYPE_FILE : TYPE_DIRECTORY;
  out.set(MAGIC, at + OFFSET_MAGIC);
  writeOctal(out, at + OFFSET_CHECKSUM, CHECKSUM_DIGITS, headerChecksum(out, at));
  out[at + OFFSET_CHECKSUM + CHECKSUM_DIGITS + 1] = SPACE;
}

/** The sum of the header's bytes, with the checksum itself counted as spaces. */
function headerChecksum(bytes: Uint8Array, at: number): number {
  let sum = 8 * SPACE;
  for (let i = 0; i < OFFSET_CHECKSUM; i++) sum += bytes[at + i];
  for (let i = OFFSET_CHECKSUM + 8; i < TAR_BLOCK_BYTES; i++) sum += bytes[at + i];
  return sum;
}

function writeOctal(out: Uint8Array, at: number, digits: number, value: number): void {
  let rest = value;
  for (let i = digits - 1; i >= 0; i--) {
    out[at + i] = DIGIT_0 + rest % 8;
    rest = Math.floor(rest / 8);
  }
  assert(rest === 0, "a number in a tar header fits its field");
}

/**
 * Parses the header at `at`. Returns null at the end of the archive.
 *
 * @throws {ZenithError} `protocol` when it is not a header, or not the header of a file or a
 *   directory
 */
function parseTarHeader(bytes: Uint8Array, at: number): TarEntry | null {
  let checksum = readOctal(bytes, at + OFFSET_CHECKSUM, SHORT_DIGITS);
  if (checksum < 0) checksum = readOctal(bytes, at + OFFSET_CHECKSUM, CHECKSUM_DIGITS);
  if (checksum !== headerChecksum(bytes, at)) {
    if (bytes.subarray(at, at + TAR_BLOCK_BYTES).every((byte) => byte === 0)) return null;
    throw new ZenithError("protocol", "basebackup: a tar header's checksum is wrong");
  }
  let length = 0;
  while (length < NAME_BYTES && bytes[at + length] !== 0) length++;
  const name = DECODER.decode(bytes.subarray(at, at + length));
  for (let i = 0; i < MAGIC_WORD_BYTES; i++) {
    if (bytes[at + OFFSET_MAGIC + i] !== MAGIC[i]) {
      throw new ZenithError("protocol", `basebackup: the header of ${name} is not ustar`);
    }
  }
  const type = bytes[at + OFFSET_TYPE];
  if (type !== TYPE_FILE && type !== TYPE_DIRECTORY) {
    const found = String.fromCharCode(type);
    throw new ZenithError(
      "protocol",
      `basebackup: ${name} is of type "${found}", neither a file nor a directory`,
    );
  }
  const size = readOctal(bytes, at + OFFSET_SIZE, LONG_DIGITS);
  if (size < 0 || type === TYPE_DIRECTORY && size > 0 || bytes[at + OFFSET_PREFIX] !== 0) {
    throw new ZenithError("protocol", `basebackup: the header of ${name} can't be of a data directory`);
  }
  return { name, type: type === TYPE_FILE ? "file" : "directory", size };
}

/** Returns -1 when there is no number of at most that many digits. */
function readOctal(bytes: Uint8Array, at: number, digits: number): number {
  let value = 0;
  for (let i = 0; i < digits; i++) {
    const digit = bytes[at + i] - DIGIT_0;
    if (digit < 0 || digit > 7) return -1;
    value = value * 8 + digit;
  }
  return value;
}

/** Receives the entries that a {@link TarReader} finds. An exception stops the reader. */
export interface TarHandler {
  begin(entry: TarEntry): void;
  /** Gets the next bytes of the entry's content, which are valid until it returns. */
  content(bytes: Uint8Array): void;
  /** The entry is complete. */
  end(): void;
}

/** Reads an archive that arrives in pieces of any size. */
export class TarReader {
  readonly #handler: TarHandler;
  /** An incomplete header, and how much of it has arrived. */
  readonly #header = new Uint8Array(TAR_BLOCK_BYTES);
  #headerBytes = 0;
  #entry: TarEntry | null = null;
  /**
   * How many bytes of the entry's content are still to come, and how many of the padding after it.
   */
  #contentLeft = 0;
  #paddingLeft = 0;
  #ended = false;

  constructor(handler: TarHandler) {
    this.#handler = handler;
  }

  /**
   * @throws {ZenithError} `protocol` when it is not an archive, or has entries that a data
   *   directory can't have; the handler's exceptions
   */
  push(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length && !this.#ended) {
      const left = bytes.length - at;
      if (this.#contentLeft > 0) {
        const count = Math.min(left, this.#contentLeft);
        this.#handler.content(bytes.subarray(at, at + count));
        this.#contentLeft -= count;
        at += count;
        if (this.#contentLeft === 0) this.#end();
      } else if (this.#paddingLeft > 0) {
        const count = Math.min(left, this.#paddingLeft);
        this.#paddingLeft -= count;
        at += count;
      } else if (this.#headerBytes === 0 && left >= TAR_BLOCK_BYTES) {
        this.#begin(bytes, at);
        at += TAR_BLOCK_BYTES;
      } else {
        const count = Math.min(left, TAR_BLOCK_BYTES - this.#headerBytes);
        this.#header.set(bytes.subarray(at, at + count), this.#headerBytes);
        this.#headerBytes += count;
        at += count;
        if (this.#headerBytes < TAR_BLOCK_BYTES) return;
        this.#headerBytes = 0;
        this.#begin(this.#header, 0);
      }
    }
  }

  /** Ends the input. @throws {ZenithError} `protocol` when the archive is incomplete */
  finish(): void {
    if (this.#ended) return;
    const where = this.#entry === null ? "" : ` in ${this.#entry.name}`;
    throw new ZenithError("protocol", `basebackup: the tar is cut short${where}`);
  }

  #begin(bytes: Uint8Array, at: number): void {
    const entry = parseTarHeader(bytes, at);
    if (entry === null) {
      this.#ended = true;
      return;
    }
    this.#entry = entry;
    this.#contentLeft = entry.size;
    this.#paddingLeft = tarPadding(entry.size);
    this.#handler.begin(entry);
    if (entry.size === 0) this.#end();
  }

  #end(): void {
    this.#handler.end();
    this.#entry = null;
  }
}
