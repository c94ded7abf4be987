/** Leases: LSNs of a timeline that must stay readable. */
import type { Disk } from "../../common/disk.ts";
import { ZenithError } from "../../common/errors.ts";
import { formatLsn, type Lsn, parseLsn } from "../../common/lsn.ts";
import { SmallFile, type SmallFormat } from "../../common/small_file.ts";
import { formatTimestamp, msOfTimestamp, parseTimestamp, timestampOfMs } from "../../common/timestamp.ts";

/**
 * LSN → end, in milliseconds since 1970. One line for each:
 * `0/16B5A50 2026-11-22T09:30:00.000000Z`.
 */
type Ends = ReadonlyMap<Lsn, number>;

const FORMAT: SmallFormat<Ends> = {
  title: "zenith leases",
  encode: (ends) => [...ends].map(([lsn, end]) => `${formatLsn(lsn)} ${formatTimestamp(timestampOfMs(end))}`),
  decode: (lines) =>
    new Map(lines.map((line) => {
      const [lsn = "", end = ""] = line.split(" ");
      return [parseLsn(lsn), msOfTimestamp(parseTimestamp(end, "none"))];
    })),
};

/**
 * LSNs of one timeline that somebody reads at and that must therefore stay readable, each until
 * some time. They are on disk, so that a restart of the page server breaks no promise. If they were
 * lost, all history stays readable.
 */
export class Leases {
  readonly #file: SmallFile<Ends>;
  #ends: Ends;
  /** Whether there was a damaged file when this one was opened. */
  readonly #wasDamaged: boolean;

  /** @throws {ZenithError} `io` */
  constructor(disk: Disk, path: string) {
    this.#file = new SmallFile(disk, path, FORMAT);
    this.#ends = this.#file.readOrSetAside() ?? new Map();
    this.#wasDamaged = this.#file.damage() !== null;
  }

  /**
   * Keeps `lsn` readable for `durationMs` from now on, or longer if an earlier lease says so.
   * Effective at once, and durable when this resolves.
   *
   * @returns when it ends, in milliseconds since 1970
   * @throws {ZenithError} `disk_full`, `io`: the lease is not taken then
   */
  async take(lsn: Lsn, durationMs: number, nowMs: number): Promise<number> {
    const before = this.#ends.get(lsn);
    const end = Math.max(before ?? 0, nowMs + durationMs);
    const next = new Map([...this.#ends].filter(([, end]) => end > nowMs));
    next.set(lsn, end);
    // Now: a garbage collection must not remove the LSN while the file is being written.
    this.#ends = next;
    try {
      await this.#file.write(next);
    } catch (error) {
      if (this.#ends.get(lsn) === end) {
        const without = new Map(this.#ends);
        if (before === undefined) without.delete(lsn);
        else without.set(lsn, before);
        this.#ends = without;
      }
      throw error;
    }
    return end;
  }

  /**
   * The LSNs that are leased now, ascending.
   *
   * @throws {ZenithError} `corrupt_data` when other leases are unknown, as {@link damage} says
   */
  active(nowMs: number): Lsn[] {
    const damage = this.damage();
    if (damage !== null) throw new ZenithError("corrupt_data", damage.what, { hint: damage.hint });
    return [...this.#ends].filter(([, end]) => end > nowMs).map(([lsn]) => lsn).sort((a, b) => a - b);
  }

  /** What is wrong, and what to do about it; null when nothing is. @throws {ZenithError} `io` */
  damage(): { readonly what: string; readonly hint: string } | null {
    const damage = this.#wasDamaged ? this.#file.damage() : null;
    if (damage === null) return null;
    return {
      what: `${damage}: who reads at which old LSN is not known, so no history is given up`,
      hint: "remove that file when nobody reads at old LSNs any more",
    };
  }
}
