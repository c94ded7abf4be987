/**
 * Which LSNs of a timeline must stay readable: all at or above a cutoff, and single ones below it, where branches left or
 * somebody holds a lease.
 */
import { lastAtOrBelow } from "./record_starts.ts";

export class Retention {
  readonly cutoff: number;
  /** Ascending, each below the cutoff, none twice. */
  readonly points: readonly number[];

  constructor(cutoff: number, points: readonly number[]) {
    this.cutoff = cutoff;
    this.points = [...new Set(points)].filter((point) => point < cutoff).sort((x, y) => x - y);
  }

  /** Whether a read at `lsn` gives what it always gave. */
  keeps(lsn: number): boolean {
    if (lsn >= this.cutoff) return true;
    const at = lastAtOrBelow(this.points, lsn);
    return at >= 0 && this.points[at] === lsn;
  }

  /** The first LSN at or above `lsn` that must stay readable. */
  next(lsn: number): number {
    if (lsn >= this.cutoff) return lsn;
    const before = lastAtOrBelow(this.points, lsn);
    if (before >= 0 && this.points[before] === lsn) return lsn;
    return before + 1 < this.points.length ? this.points[before + 1]! : this.cutoff;
  }
}

/** Nothing was ever given up. */
export const KEEP_ALL = new Retention(0, []);
