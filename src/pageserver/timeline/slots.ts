/** Keeps the replication slots of one timeline, and the WAL position that they need. */
import type { Disk } from "../../common/disk.ts";
import { ZenithError } from "../../common/errors.ts";
import { formatLsn, INVALID_LSN, type Lsn, parseLsn } from "../../common/lsn.ts";
import { SmallFile, type SmallFormat } from "../../common/small_file.ts";
import { SLOTS_WORD } from "../../protocol/branch_slots.ts";

export interface SlotsState {
  /**
   * Identifies the compute that set the slots. Each later compute on the timeline has a higher
   * number.
   */
  readonly generation: number;
  /** The slots need WAL from here on; null when they need none. */
  readonly holdLsn: Lsn | null;
  /** The slots as packed by their compute; null when there have never been any. */
  readonly slots: string | null;
}

const NONE: SlotsState = { generation: 0, holdLsn: null, slots: null };

/** Lines `generation 3`, `hold 0/16B5A50` or `hold none`, and `slots <word>`. */
const FORMAT: SmallFormat<SlotsState> = {
  title: "zenith slots",
  encode: ({ generation, holdLsn, slots }) => [
    `generation ${generation}`,
    `hold ${holdLsn === null ? "none" : formatLsn(holdLsn)}`,
    ...(slots === null ? [] : [`slots ${slots}`]),
  ],
  decode: ([first = "", second = "", third]) => {
    const generation = /^generation (\d{1,15})$/.exec(first)?.[1];
    const hold = /^hold (\S+)$/.exec(second)?.[1];
    const slots = third === undefined ? null : /^slots (\S+)$/.exec(third)?.[1];
    if (generation === undefined || hold === undefined || slots === undefined) {
      throw new Error("these are no slots");
    }
    if (slots !== null && !SLOTS_WORD.test(slots)) throw new Error(`"${slots.slice(0, 40)}" are no slots`);
    return { generation: Number(generation), holdLsn: hold === "none" ? null : parseLsn(hold), slots };
  },
};

export class TimelineSlots {
  readonly #file: SmallFile<SlotsState>;
  #state: SlotsState;
  readonly #maxBytes: number;
  /** Set when the file was damaged: nobody knows what WAL the slots need. */
  #isLost: boolean;

  /**
   * @param maxBytes the most WAL that is kept for the slots
   * @throws {ZenithError} `io`
   */
  constructor(disk: Disk, path: string, maxBytes: number) {
    this.#maxBytes = maxBytes;
    this.#file = new SmallFile(disk, path, FORMAT);
    this.#state = this.#file.readOrSetAside() ?? NONE;
    this.#isLost = this.#state === NONE && this.#file.damage() !== null;
  }

  get state(): SlotsState {
    return this.#state;
  }

  /**
   * WAL below this LSN may be removed from a timeline that ends at `end`; Infinity when all may be.
   */
  keepFrom(end: Lsn): number {
    const holdLsn = this.#isLost ? INVALID_LSN : this.#state.holdLsn ?? Infinity;
    return Math.max(holdLsn, end - this.#maxBytes);
  }

  /**
   * Takes over the slots: from now on only the caller can set them. An earlier compute may not know
   * yet that it was replaced, and would have WAL removed that the later compute relies on. The
   * takeover is durable when the promise resolves, if there are any slots.
   *
   * @throws {ZenithError} `disk_full`, `io`
   */
  async take(): Promise<SlotsState> {
    const taken = { ...this.#state, generation: this.#state.generation + 1 };
    this.#state = taken;
    // Nothing relies on it while there are no slots. Most computes have none and start without a
    // sync.
    if (taken.slots !== null) await this.#file.write(taken);
    return taken;
  }

  /**
   * Sets the slots. WAL is removed only by what is durable, so what the slots needed before is kept
   * until the promise resolves.
   *
   * @throws {ZenithError} `conflict` when another compute has taken over the slots, `disk_full`,
   *   `io`
   */
  async set(state: SlotsState): Promise<void> {
    this.#assertCurrent(state.generation);
    // Two calls may overlap.
    const before = this.#state.holdLsn ?? Infinity;
    if ((state.holdLsn ?? Infinity) < before) this.#state = { ...this.#state, holdLsn: state.holdLsn };
    await this.#file.write(state);
    if (state.generation < this.#state.generation) await this.#file.write(this.#state);
    this.#assertCurrent(state.generation);
    this.#state = state;
    this.#isLost = false;
  }

  #assertCurrent(generation: number): void {
    if (generation >= this.#state.generation) return;
    throw new ZenithError("conflict", "another Postgres has taken over the branch's replication slots");
  }

  /**
   * What is wrong with the slots and what to do about it; null when nothing is wrong.
   * @throws {ZenithError} `io`
   */
  damage(): { readonly what: string; readonly hint: string } | null {
    const damage = this.#isLost ? this.#file.damage() : null;
    this.#isLost = damage !== null;
    if (damage === null) return null;
    return {
      what: `${damage}: the branch's replication slots are not known`,
      hint: "create them anew, or remove that file when there were none",
    };
  }
}
