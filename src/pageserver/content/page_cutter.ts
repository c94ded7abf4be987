/** Cuts a file that comes in pieces of any length into pages. */
import { ZenithError } from "../../common/errors.ts";
import { BLCKSZ } from "../../postgres/cluster/page_layout.ts";

export class PageCutter {
  readonly #name: string;
  /** The begin of a page of which more is to come. */
  readonly #page = new Uint8Array(BLCKSZ);
  #length = 0;

  /** @param name of the file, for messages */
  constructor(name: string) {
    this.#name = name;
  }

  /** @param put gets each page that is complete, which is valid until it returns */
  push(bytes: Uint8Array, put: (bytes: Uint8Array, off: number) => void): void {
    let at = 0;
    while (at < bytes.length) {
      const left = bytes.length - at;
      if (this.#length === 0 && left >= BLCKSZ) {
        put(bytes, at);
        at += BLCKSZ;
        continue;
      }
      const count = Math.min(left, BLCKSZ - this.#length);
      this.#page.set(bytes.subarray(at, at + count), this.#length);
      this.#length += count;
      at += count;
      if (this.#length < BLCKSZ) return;
      put(this.#page, 0);
      this.#length = 0;
    }
  }

  /** @throws {ZenithError} `corrupt_data` when the file ends within a page */
  finish(): void {
    if (this.#length === 0) return;
    throw new ZenithError("corrupt_data", `${this.#name} does not have a whole number of pages`);
  }
}

/** Whether a page is all zeros, as one that was never written. */
export function isZero(bytes: Uint8Array, off: number): boolean {
  // The header of a page that is in use is not all zeros, so this rarely goes on.
  for (let i = off; i < off + BLCKSZ; i++) if (bytes[i] !== 0) return false;
  return true;
}
