/**
 * Tracks which parts of a relation file the overlay has, in units of the kernel's page. Writes
 * arrive in such units, so half of a block may be present before the other half.
 */
export const UNIT_BYTES = 4096;

/**
 * A map of a file's units. A unit is missing, clean (fetched, so the page server has the same) or
 * written. Only clean units may be evicted. A written unit is newer here than anywhere else for as
 * long as the compute runs.
 */
export class Presence {
  readonly #present: Uint8Array;
  readonly #written: Uint8Array;
  /** Clean units that were read since {@link findUnused} last passed them. */
  readonly #used: Uint8Array;
  /** Units that Postgres has asked for, present or not, and that have not been evicted since. */
  readonly #asked: Uint8Array;
  readonly #units: number;
  #presentCount = 0;
  #writtenCount = 0;

  /** @param bytes the length of the part of the file that may come from the page server */
  constructor(bytes: number) {
    this.#units = Math.ceil(bytes / UNIT_BYTES);
    const length = Math.ceil(this.#units / 8);
    this.#present = new Uint8Array(length);
    this.#written = new Uint8Array(length);
    this.#used = new Uint8Array(length);
    this.#asked = new Uint8Array(length);
  }

  /** How many units the overlay has. */
  get presentCount(): number {
    return this.#presentCount;
  }

  get cleanCount(): number {
    return this.#presentCount - this.#writtenCount;
  }

  has(unit: number): boolean {
    return isSet(this.#present, unit);
  }

  /** Notes that a missing unit has been fetched. */
  addClean(unit: number): void {
    set(this.#present, unit);
    clear(this.#used, unit);
    this.#presentCount++;
  }

  /** Notes that units [first, end) have been written. */
  addWritten(first: number, end: number): void {
    for (let unit = first; unit < end; unit++) {
      if (isSet(this.#written, unit)) continue;
      set(this.#written, unit);
      this.#writtenCount++;
      if (isSet(this.#present, unit)) continue;
      set(this.#present, unit);
      this.#presentCount++;
    }
  }

  /** Notes that units [first, end) have been read here. */
  use(first: number, end: number): void {
    for (let unit = first; unit < Math.min(end, this.#units); unit++) set(this.#used, unit);
  }

  /** Notes that Postgres asks for units [first, end). */
  ask(first: number, end: number): void {
    for (let unit = first; unit < Math.min(end, this.#units); unit++) set(this.#asked, unit);
  }

  wasAsked(unit: number): boolean {
    return unit < this.#units && isSet(this.#asked, unit);
  }

  /** Visits every unit that was asked for or written, in order. */
  forEachHot(visit: (unit: number) => void): void {
    for (let byte = 0; byte < this.#asked.length; byte++) {
      const hot = this.#asked[byte] | this.#written[byte];
      for (let bit = 0; hot >>> bit !== 0; bit++) {
        if ((hot >>> bit) & 1) visit(8 * byte + bit);
      }
    }
  }

  /** Notes that units from `first` on no longer come from the page server. */
  cut(first: number): void {
    for (let unit = first; unit < this.#units; unit++) {
      if (isSet(this.#written, unit)) this.#writtenCount--;
      if (isSet(this.#present, unit)) this.#presentCount--;
      clear(this.#written, unit);
      clear(this.#present, unit);
      clear(this.#asked, unit);
    }
  }

  /**
   * Finds the first clean unit from `from` on that nobody has read since this last passed it, as a
   * clock hand does.
   *
   * @returns -1 when there is none up to the end
   */
  findUnused(from: number): number {
    for (let unit = from; unit < this.#units; unit++) {
      if (unit % 8 === 0) {
        // Skip eight at a time where nothing is clean.
        while (unit < this.#units && this.#present[unit >>> 3] === this.#written[unit >>> 3]) unit += 8;
        if (unit >= this.#units) return -1;
      }
      if (!this.#isClean(unit)) continue;
      if (!isSet(this.#used, unit)) return unit;
      clear(this.#used, unit);
    }
    return -1;
  }

  /**
   * Evicts at most `limit` clean, unused units from `first` on, which must be one.
   *
   * @returns the end of the evicted units
   */
  giveUp(first: number, limit: number): number {
    let unit = first;
    for (; unit < this.#units && unit - first < limit && this.#isClean(unit); unit++) {
      if (isSet(this.#used, unit)) break;
      clear(this.#present, unit);
      clear(this.#asked, unit);
      this.#presentCount--;
    }
    return unit;
  }

  #isClean(unit: number): boolean {
    return isSet(this.#present, unit) && !isSet(this.#written, unit);
  }
}

function isSet(bits: Uint8Array, unit: number): boolean {
  return (bits[unit >>> 3] & (1 << (unit & 7))) !== 0;
}

function set(bits: Uint8Array, unit: number): void {
  bits[unit >>> 3] |= 1 << (unit & 7);
}

function clear(bits: Uint8Array, unit: number): void {
  bits[unit >>> 3] &= ~(1 << (unit & 7));
}
