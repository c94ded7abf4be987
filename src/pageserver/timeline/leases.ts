/** Keeps leases: LSNs of a timeline that must stay readable. */
import type { Disk } from "../../common/disk.ts";
import { ZenithError } from "../../common/errors.ts";
import { formatLsn, type Lsn, parseLsn } from "../../common/lsn.ts";
import { SmallFile, type SmallFormat } from "../../common/small_file.ts";
import { formatTimestamp, msOfTimestamp, parseTimestamp, timestampOfMs } from "../../common/timestamp.ts";

interface Lease {
  readonly lsn: Lsn;
  /** In milliseconds since 1970. */
  readonly end: number;
  /** Who can release the lease before it ends; "" when nobody can. */
  readonly holder: string;
}

/**
 * One line per lease: `0/16B5A50 2026-11-22T09:30:00.000000Z`, then the holder if there is one. Of
 * the lines for one LSN, the last one ends last. A reader that does not know holders can use that
 * line alone.
 */
const FORMAT: SmallFormat<readonly Lease[]> = {
  title: "zenith leases",
  encode: (leases) =>
    leases.toSorted((a, b) => a.end - b.end).map(({ lsn, end, holder }) =>
      `${formatLsn(lsn)} ${formatTimestamp(timestampOfMs(end))} ${holder}`.trimEnd()
    ),
  decode: (lines) =>
    lines.map((line) => {
      const [lsn = "", end = "", holder = ""] = line.split(" ");
      return { lsn: parseLsn(lsn), end: msOfTimestamp(parseTimestamp(end, "none")), holder };
    }),
};

/**
 * LSNs of one timeline that must stay readable, each until some time, because somebody reads at
 * them. Leases are on disk, so that a restart of the page server breaks no promise. If they are
 * lost, all history stays readable.
 */
export class Leases {
  readonly #file: SmallFile<readonly Lease[]>;
  #leases: readonly Lease[];
  /** Whether the file was damaged when it was opened here. */
  readonly #wasDamaged: boolean;

  /** @throws {ZenithError} `io` */
  constructor(disk: Disk, path: string) {
    this.#file = new SmallFile(disk, path, FORMAT);
    this.#leases = this.#file.readOrSetAside() ?? [];
    this.#wasDamaged = this.#file.damage() !== null;
  }

  /**
   * Keeps `lsn` readable for `durationMs` from now, or longer if an earlier lease says so. The
   * lease takes effect at once and is durable when the promise resolves.
   *
   * @param holder may release the lease before it ends
   * @returns when the lease ends, in milliseconds since 1970
   * @throws {ZenithError} `disk_full`, `io`: the lease is not taken then
   */
  async take(lsn: Lsn, durationMs: number, nowMs: number, holder = ""): Promise<number> {
    const before = this.#leases.find(isOf(lsn, holder));
    const taken = { lsn, end: Math.max(before?.end ?? 0, nowMs + durationMs), holder };
    const others = this.#leases.filter((lease) => lease.end > nowMs && lease !== before);
    // Add the lease now: a garbage collection must not remove the LSN while the file is being
    // written.
    this.#leases = [...others, taken];
    try {
      await this.#file.write(this.#leases);
    } catch (error) {
      this.#leases = this.#leases.flatMap((lease) =>
        lease !== taken ? [lease] : before === undefined ? [] : [before]
      );
      throw error;
    }
    return taken.end;
  }

  /**
   * Releases the lease that `holder` has on `lsn`, with effect at once. Other holders of the same
   * LSN keep theirs.
   *
   * @throws {ZenithError} `disk_full`, `io`: a restart may then bring the lease back until it ends
   */
  async release(lsn: Lsn, holder: string): Promise<void> {
    const found = this.#leases.find(isOf(lsn, holder));
    if (found === undefined) return;
    this.#leases = this.#leases.filter((lease) => lease !== found);
    await this.#file.write(this.#leases);
  }

  /**
   * Returns the LSNs that are leased now, ascending.
   *
   * @throws {ZenithError} `corrupt_data` when there may be unknown leases, as {@link damage} says
   */
  active(nowMs: number): Lsn[] {
    const damage = this.damage();
    if (damage !== null) throw new ZenithError("corrupt_data", damage.what, { hint: damage.hint });
    const lsns = this.#leases.filter(({ end }) => end > nowMs).map(({ lsn }) => lsn);
    return [...new Set(lsns)].sort((a, b) => a - b);
  }

  /**
   * What is wrong with the leases and what to do about it; null when nothing is wrong.
   * @throws {ZenithError} `io`
   */
  damage(): { readonly what: string; readonly hint: string } | null {
    const damage = this.#wasDamaged ? this.#file.damage() : null;
    if (damage === null) return null;
    return {
      what: `${damage}: who reads at which old LSN is not known, so no history is given up`,
      hint: "remove that file when nobody reads at old LSNs any more",
    };
  }
}

function isOf(lsn: Lsn, holder: string): (lease: Lease) => boolean {
  return (lease) => lease.lsn === lsn && lease.holder === holder;
}
