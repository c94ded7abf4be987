/** Reads the fields of one message body. It never reads beyond the body's end. */
import { ProtocolError, SQLSTATE_CHARACTER_NOT_IN_REPERTOIRE } from "./sqlstate.ts";

const utf8 = new TextDecoder("utf-8", { fatal: true });

export class ByteCursor {
  readonly #what: string;
  readonly #bytes: Uint8Array;
  readonly #end: number;
  #pos: number;

  /** @param what names the message in error messages */
  constructor(what: string, bytes: Uint8Array, off: number, len: number) {
    this.#what = what;
    this.#bytes = bytes;
    this.#pos = off;
    this.#end = off + len;
  }

  get remaining(): number {
    return this.#end - this.#pos;
  }

  uint8(): number {
    return this.#bytes[this.#take(1)];
  }

  int16(): number {
    const at = this.#take(2);
    return ((this.#bytes[at] << 8) | this.#bytes[at + 1]) << 16 >> 16;
  }

  int32(): number {
    const at = this.#take(4);
    const bytes = this.#bytes;
    return (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
  }

  /** Reads the count of the fields that follow. @throws {ProtocolError} when it is negative */
  count(): number {
    const value = this.int16();
    if (value < 0) throw new ProtocolError(`${this.#what}: negative count ${value}`);
    return value;
  }

  /**
   * Reads UTF-8 text up to a zero byte. @throws {ProtocolError} when the zero is missing or the
   * text is not UTF-8
   */
  cstring(): string {
    const zero = this.#bytes.indexOf(0, this.#pos);
    if (zero < 0 || zero >= this.#end) throw new ProtocolError(`${this.#what}: string without an end`);
    const text = this.#decode(this.#pos, zero);
    this.#pos = zero + 1;
    return text;
  }

  /** Reads UTF-8 text of a given length. */
  text(len: number): string {
    const at = this.#take(len);
    return this.#decode(at, at + len);
  }

  /** Returns a view of the next `len` bytes. It is valid as long as the message is. */
  bytes(len: number): Uint8Array {
    const at = this.#take(len);
    return this.#bytes.subarray(at, at + len);
  }

  /** @throws {ProtocolError} unless the whole body has been read */
  end(): void {
    if (this.#pos !== this.#end) {
      throw new ProtocolError(`${this.#what}: ${this.remaining} bytes too many`);
    }
  }

  #take(count: number): number {
    const at = this.#pos;
    if (count < 0 || count > this.#end - at) {
      throw new ProtocolError(`${this.#what}: needs ${count} more bytes, has ${this.#end - at}`);
    }
    this.#pos = at + count;
    return at;
  }

  #decode(start: number, end: number): string {
    try {
      return utf8.decode(this.#bytes.subarray(start, end));
    } catch {
      throw new ProtocolError(`${this.#what}: text is not UTF-8`, SQLSTATE_CHARACTER_NOT_IN_REPERTOIRE);
    }
  }
}
