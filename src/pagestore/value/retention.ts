/**
 * Says which LSNs of a timeline must stay readable: all at or above a cutoff, and single ones below
 * it where branches left or somebody holds a lease.
 */
import { lastAtOrBelow } from "./record_starts.ts";

/**
 * Describes the versions that a layer lost when it was written: all that its timeline's
 * {@link Retention} did not keep at that time.
 */
export interface GivenUp {
  /** No version above this LSN was removed; 0 when none was removed at all. */
  readonly cutoff: number;
  /** How many LSNs of the layer's range below the cutoff were kept. */
  readonly points: number;
}

export const NOTHING_GIVEN_UP: GivenUp = { cutoff: 0, points: 0 };

export class Retention {
  readonly cutoff: number;
  /** Ascending, each below the cutoff, without duplicates. */
  readonly points: readonly number[];

  constructor(cutoff: number, points: readonly number[]) {
    this.cutoff = cutoff;
    this.points = [...new Set(points)].filter((point) => point < cutoff).sort((x, y) => x - y);
  }

  /** Whether a read at `lsn` still gives what it always gave. */
  keeps(lsn: number): boolean {
    if (lsn >= this.cutoff) return true;
    const at = lastAtOrBelow(this.points, lsn);
    return at >= 0 && this.points[at] === lsn;
  }

  /** Returns the first LSN at or above `lsn` that must stay readable. */
  next(lsn: number): number {
    if (lsn >= this.cutoff) return lsn;
    const before = lastAtOrBelow(this.points, lsn);
    if (before >= 0 && this.points[before] === lsn) return lsn;
    return before + 1 < this.points.length ? this.points[before + 1] : this.cutoff;
  }

  /** Returns how many points lie above `from` and at or below `to`. */
  countPoints(from: number, to: number): number {
    return Math.max(0, lastAtOrBelow(this.points, to) - lastAtOrBelow(this.points, from));
  }

  /** Returns what a layer for startLsn < lsn ≤ endLsn would lose if it were written now. */
  givenUp(startLsn: number, endLsn: number): GivenUp {
    const cutoff = Math.min(this.cutoff, endLsn);
    return cutoff <= startLsn ? NOTHING_GIVEN_UP : { cutoff, points: this.countPoints(startLsn, cutoff) };
  }
}

/** Keeps all history: none was ever removed. */
export const KEEP_ALL = new Retention(0, []);
