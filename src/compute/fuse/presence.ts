/**
 * Which parts of a relation file the overlay has, in units of the kernel's page: writes come back in those, so that half of
 * a block may be there before the other half.
 */
export const UNIT_BYTES = 4096;

export class Presence {
  readonly #bits: Uint8Array;

  /** @param bytes length of the part of the file that may come from the page server */
  constructor(bytes: number) {
    this.#bits = new Uint8Array(Math.ceil(bytes / UNIT_BYTES / 8));
  }

  has(unit: number): boolean {
    return (this.#bits[unit >>> 3]! & (1 << (unit & 7))) !== 0;
  }

  /** Units [first, end). */
  add(first: number, end: number): void {
    for (let unit = first; unit < end; unit++) this.#bits[unit >>> 3]! |= 1 << (unit & 7);
  }
}
