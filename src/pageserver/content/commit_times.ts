/** The index from commit times to LSNs. */
import { assert } from "../../common/assert.ts";
import { ZenithError } from "../../common/errors.ts";
import type { Lsn } from "../../common/lsn.ts";
import { type TimelineStore, ValueChain } from "../../pagestore/mod.ts";
import { CLOCK_SET_BACK_KEY, COMMIT_TIME_KEY, TAG_BYTES, VALUE_BLOCK } from "./keys.ts";

const US_PER_MS = 1000;

// A value has the millisecond, and the end of the last commit before it.
const MILLISECOND = 0;
const LAST_COMMIT_LSN = 8;
const VALUE_BYTES = 16;

// A value of CLOCK_SET_BACK. Both numbers are milliseconds since 2000.
const SET_BACK_TO = 0;
const SET_BACK_FROM = 8;

/**
 * Commits of concurrent transactions are out of order by less than this. A larger step means that a
 * clock was set back.
 */
export const SET_BACK_MIN_US = 10_000_000;

/**
 * The moments that exist twice, because the clock was set back and has not caught up. In
 * microseconds since 2000.
 */
export interface SetBack {
  /** The earliest commit since the clock was set back. */
  readonly to: number;
  /** The newest commit before that. */
  readonly from: number;
}

/** The place of a point in time in a timeline's history. */
export type FoundTime =
  /**
   * `lsn` is at or above all commits at or before that time, and below all later ones. There are
   * later ones.
   */
  | { readonly where: "within"; readonly lsn: Lsn }
  /** No commit is later. */
  | { readonly where: "end" }
  /** The time is before `beginning`, the first moment that is known. */
  | { readonly where: "before"; readonly beginning: number };

/**
 * An index from commit times to LSNs, like the one that PostgreSQL's recovery_target_time needs.
 *
 * It is one object of the page store. The first commit of each millisecond adds a version, which
 * says where the commit before it ended. So a second of history costs at most a thousand puts. Like
 * the versions of any page, these are found again after a restart, in branches, and after
 * compaction. A timestamp's LSN is found by a binary search over LSNs.
 *
 * Concurrent transactions may write their commits in an order that differs from their times, and
 * clocks may be set back. A commit therefore counts as of the latest time seen up to it, which
 * never decreases.
 */
export class CommitTimes {
  readonly #store: TimelineStore;
  readonly #slot: number;
  readonly #chain = new ValueChain();
  readonly #bytes = new Uint8Array(VALUE_BYTES);
  readonly #view = new DataView(this.#bytes.buffer);
  #newestMs: number;
  readonly #setBackSlot: number;
  #setBack: SetBack | null;
  #lastCommitLsn: number;
  /** What the last {@link note} has changed. */
  #before: {
    readonly newestMs: number;
    readonly lastCommitLsn: number;
    readonly setBack: SetBack | null;
  };

  /** Continues at the end of what is stored. */
  constructor(store: TimelineStore) {
    this.#store = store;
    this.#slot = store.slot(COMMIT_TIME_KEY);
    this.#newestMs = this.#versionAt(store.lastLsn) ? this.#milliseconds() : -Infinity;
    this.#setBackSlot = store.slot(CLOCK_SET_BACK_KEY);
    this.#setBack = this.#storedSetBack();
    // The last commit is known only to the millisecond. In any case, nothing is committed after
    // this LSN.
    this.#lastCommitLsn = store.lastLsn;
    this.#before = { newestMs: this.#newestMs, lastCommitLsn: store.lastLsn, setBack: this.#setBack };
  }

  /**
   * Notes that a transaction committed at `timestamp`, in a record that ends at `endLsn`. Must be
   * called in WAL order.
   */
  note(timestamp: number, endLsn: number): void {
    const ms = Math.floor(timestamp / US_PER_MS);
    this.#before = {
      newestMs: this.#newestMs,
      lastCommitLsn: this.#lastCommitLsn,
      setBack: this.#setBack,
    };
    if (ms > this.#newestMs) {
      this.#newestMs = ms;
      this.#view.setBigInt64(MILLISECOND, BigInt(ms), true);
      this.#view.setBigUint64(LAST_COMMIT_LSN, BigInt(this.#lastCommitLsn), true);
      this.#store.putValue(this.#slot, VALUE_BLOCK, endLsn, this.#bytes, TAG_BYTES, true);
    } else if ((this.#newestMs - ms) * US_PER_MS > SET_BACK_MIN_US) {
      this.#noteSetBack(ms, endLsn);
    }
    this.#lastCommitLsn = endLsn;
  }

  /** Takes back what was noted of a record after `end`. It is to be noted again. */
  takeBack(end: number): void {
    if (this.#lastCommitLsn <= end) return;
    this.#newestMs = this.#before.newestMs;
    this.#lastCommitLsn = this.#before.lastCommitLsn;
    this.#setBack = this.#before.setBack;
  }

  /**
   * The time of the last commit, to the millisecond, in microseconds since 2000. Null when nothing
   * was ever committed.
   */
  get newest(): number | null {
    return this.#newestMs === -Infinity ? null : this.#newestMs * US_PER_MS;
  }

  /**
   * The time of the first commit that is known, in the form of {@link newest}: from then on, each
   * moment can be found. It costs what {@link find} does.
   */
  get first(): number | null {
    const found = this.find(Number.MIN_SAFE_INTEGER);
    return found.where === "before" ? found.beginning : null;
  }

  /**
   * Returns the time of the last commit up to an LSN, in the form of {@link newest}. Null also when
   * that history has been removed.
   */
  at(lsn: number): number | null {
    return this.#versionAt(lsn) ? this.#milliseconds() * US_PER_MS : null;
  }

  /** The moments that exist twice at the end of the history. Null when there are none. */
  get setBack(): SetBack | null {
    return this.#setBack !== null && this.#setBack.from === this.newest ? this.#setBack : null;
  }

  #noteSetBack(ms: number, endLsn: number): void {
    const to = ms * US_PER_MS;
    const known = this.setBack;
    if (known !== null && known.to <= to) return;
    this.#setBack = { to, from: this.#newestMs * US_PER_MS };
    this.#view.setBigInt64(SET_BACK_TO, BigInt(ms), true);
    this.#view.setBigInt64(SET_BACK_FROM, BigInt(this.#newestMs), true);
    this.#store.putValue(this.#setBackSlot, VALUE_BLOCK, endLsn, this.#bytes, TAG_BYTES, true);
  }

  #storedSetBack(): SetBack | null {
    this.#store.collect(this.#setBackSlot, VALUE_BLOCK, this.#store.lastLsn, this.#chain);
    if (this.#chain.count === 0) return null;
    const stored = this.#stored();
    return {
      to: Number(stored.getBigInt64(SET_BACK_TO, true)) * US_PER_MS,
      from: Number(stored.getBigInt64(SET_BACK_FROM, true)) * US_PER_MS,
    };
  }

  /**
   * Finds a point in time. It costs about fifty reads of one small object, however long the history
   * is.
   *
   * @param timestamp microseconds since 2000; compared with commits to the millisecond
   */
  find(timestamp: number): FoundTime {
    const ms = Math.floor(timestamp / US_PER_MS);
    if (!this.#versionAt(this.#store.lastLsn) || this.#milliseconds() <= ms) return { where: "end" };
    // Versions up to `low` are not later than `ms`. The newest version up to `high` is later, and
    // `high` moves down to it.
    let low = 0;
    let high = this.#chain.lsn[0];
    let beginning = this.#milliseconds() * US_PER_MS;
    let lsn = this.#lastCommitBefore();
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      if (this.#versionAt(middle) && this.#milliseconds() > ms) {
        high = this.#chain.lsn[0];
        beginning = this.#milliseconds() * US_PER_MS;
        lsn = this.#lastCommitBefore();
      } else {
        low = middle;
      }
    }
    return this.#versionAt(high - 1) ? { where: "within", lsn } : { where: "before", beginning };
  }

  /**
   * Loads the newest version at or below `lsn`. @returns whether there is one that can still be
   * read
   */
  #versionAt(lsn: number): boolean {
    try {
      this.#store.collect(this.#slot, VALUE_BLOCK, lsn, this.#chain);
    } catch (error) {
      // Removed history counts as missing.
      if (error instanceof ZenithError && error.kind === "out_of_range") return false;
      throw error;
    }
    assert(this.#chain.count === 0 || this.#chain.len[0] === VALUE_BYTES, "a commit time is 16 bytes");
    return this.#chain.count > 0;
  }

  #milliseconds(): number {
    return Number(this.#stored().getBigInt64(MILLISECOND, true));
  }

  #lastCommitBefore(): Lsn {
    return Number(this.#stored().getBigUint64(LAST_COMMIT_LSN, true)) as Lsn;
  }

  #stored(): DataView {
    const bytes = this.#chain.bytes[0];
    return new DataView(bytes.buffer, bytes.byteOffset + this.#chain.off[0], VALUE_BYTES);
  }
}
