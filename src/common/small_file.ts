/**
 * Small text files that are always replaced as a whole: leases, names, addresses. The first line
 * says what the file is and gives the format's version. The last line is a checksum of everything
 * before it. docs/formats/small_files.md is the specification.
 */
import { dirname } from "node:path";
import { crc32c } from "./crc32c.ts";
import { type Disk, replaceFile } from "./disk.ts";
import { errorMessage, ioError, withIoErrors, ZenithError } from "./errors.ts";
import { OneAtATime } from "./one_at_a_time.ts";

/**
 * Version 1 had no checksum. Files of version 1 can still be read, and the next write replaces
 * them.
 */
const VERSION = 2;
const VERSION_WITHOUT_CHECKSUM = 1;

const CHECKSUM = /^crc32c ([0-9a-f]{8})$/;

/** The suffix of a damaged file that was moved aside. */
const DAMAGED_SUFFIX = ".damaged";

/** How to turn a value into lines and back. */
export interface SmallFormat<T> {
  /** The first line without the version: `zenith leases`. */
  readonly title: string;
  encode(value: T): readonly string[];
  /**
   * @throws when {@link encode} can't have written the lines; {@link SmallFile} adds the file's
   *   name
   */
  decode(lines: readonly string[]): T;
}

export function encodeSmallFile<T>(format: SmallFormat<T>, value: T): Uint8Array {
  const lines = [`${format.title} ${VERSION}`, ...format.encode(value)];
  const text = lines.map((line) => `${line}\n`).join("");
  return new TextEncoder().encode(`${text}crc32c ${checksum(text)}\n`);
}

/** @throws {ZenithError} `corrupt_data`, naming `path` */
export function decodeSmallFile<T>(format: SmallFormat<T>, bytes: Uint8Array, path: string): T {
  const text = new TextDecoder().decode(bytes);
  const lines = text.split("\n");
  const first = lines.shift() ?? "";
  const version = first === `${format.title} ${VERSION}`
    ? VERSION
    : first === `${format.title} ${VERSION_WITHOUT_CHECKSUM}`
    ? VERSION_WITHOUT_CHECKSUM
    : undefined;
  if (version === undefined) {
    throw damaged(path, `begins with ${quote(first)}, expected "${format.title} ${VERSION}"`);
  }
  if (lines.pop() !== "") throw damaged(path, "does not end with a whole line");
  if (version === VERSION) {
    const last = lines.pop() ?? "";
    const stored = CHECKSUM.exec(last)?.[1];
    const found = checksum(text.slice(0, text.length - last.length - 1));
    if (stored !== found) throw damaged(path, `ends with ${quote(last)}, expected "crc32c ${found}"`);
  }
  try {
    return format.decode(lines);
  } catch (error) {
    throw damaged(path, `can't be read: ${errorMessage(error)}`, error);
  }
}

/** One such file, whether or not it exists. */
export class SmallFile<T> {
  readonly path: string;
  readonly #disk: Disk;
  readonly #format: SmallFormat<T>;
  readonly #writes = new OneAtATime();

  constructor(disk: Disk, path: string, format: SmallFormat<T>) {
    this.path = path;
    this.#disk = disk;
    this.#format = format;
  }

  /** Returns null when there is no file. @throws {ZenithError} `corrupt_data`, `io` */
  read(): T | null {
    const bytes = withIoErrors(
      "read",
      this.path,
      () => this.#disk.statSync(this.path) === null ? null : this.#disk.readFileSync(this.path),
    );
    return bytes === null ? null : decodeSmallFile(this.#format, bytes, this.path);
  }

  /**
   * Replaces the file. It is durable when this resolves; until then it has its old or its new
   * content. Writes take effect in the order of the calls.
   *
   * @throws {ZenithError} `disk_full`, `io`
   */
  async write(value: T): Promise<void> {
    const content = encodeSmallFile(this.#format, value);
    try {
      await this.#writes.run(() => replaceFile(this.#disk, dirname(this.path), this.path, content));
    } catch (error) {
      throw ioError("write", this.path, error);
    }
  }

  /**
   * Like {@link read}, but renames a damaged file and returns null for it too. From then on,
   * {@link damage} reports it until somebody removes the renamed file.
   *
   * @throws {ZenithError} `io`
   */
  readOrSetAside(): T | null {
    try {
      return this.read();
    } catch (error) {
      if (!(error instanceof ZenithError) || error.kind !== "corrupt_data") throw error;
      withIoErrors("set aside", this.path, () => {
        this.#disk.renameSync(this.path, this.#aside);
        this.#disk.fsyncDirSync(dirname(this.path));
      });
      return null;
    }
  }

  /** Says why a damaged file was moved aside; null if none was. @throws {ZenithError} `io` */
  damage(): string | null {
    const isThere = withIoErrors("look for", this.#aside, () => this.#disk.statSync(this.#aside)) !== null;
    return isThere ? `${this.path} was damaged, and is now ${this.#aside}` : null;
  }

  get #aside(): string {
    return this.path + DAMAGED_SUFFIX;
  }
}

function checksum(text: string): string {
  const bytes = new TextEncoder().encode(text);
  return crc32c(bytes, 0, bytes.length).toString(16).padStart(8, "0");
}

/** Shortens and quotes a damaged line, which may be long and contain anything. */
function quote(line: string): string {
  return JSON.stringify(line.slice(0, 100));
}

function damaged(path: string, what: string, cause?: unknown): ZenithError {
  return new ZenithError("corrupt_data", `${path} ${what}`, { cause });
}
