/**
 * Limits the memory layers of all timelines together. Half of the budget is for layers that are
 * being filled: when they exceed it, the largest is frozen and written out. When the other half
 * does not suffice for what waits to be written, the timelines that it belongs to wait. When that
 * does not suffice either, all wait for whoever writes. A timeline whose layers can't be written
 * (its disk has failed) holds up nobody else; what it holds is then beyond the budget.
 */
import { assert } from "../../common/assert.ts";

/** From here on, timelines wait whose own layers are being written. */
const OWN_LIMIT = 7 / 8;
/** From here on, all wait. The rest is for the WAL that some of them have just taken. */
const COMMON_LIMIT = 31 / 32;
/** What a timeline is expected to take before it asks again. */
const TURN_BYTES = 128 << 10;

/** A timeline, as seen by the budget. */
export interface MemoryUser {
  /**
   * Freezes the open memory layer and reports that to the budget. Returns false when that can't be
   * done now.
   */
  giveBack(): boolean;
}

interface Account {
  readonly user: MemoryUser;
  openBytes: number;
  frozenBytes: number;
  fails: boolean;
  /** What it may have taken since it was let go on, and has not reported yet. */
  allowedBytes: number;
}

export class MemoryBudget {
  readonly #capacityBytes: number;
  #openBytes = 0;
  #frozenBytes = 0;
  /** The part of the frozen bytes whose flush has failed. */
  #failingBytes = 0;
  #allowedBytes = 0;
  readonly #waiting: { readonly user: MemoryUser; readonly goOn: () => void }[] = [];
  readonly #accounts = new Map<MemoryUser, Account>();

  constructor(capacityBytes: number) {
    assert(capacityBytes > 0, "memory layers need memory");
    this.#capacityBytes = capacityBytes;
  }

  get usedBytes(): number {
    return this.#openBytes + this.#frozenBytes;
  }

  /** Whether a timeline must stop taking WAL. @param flushes whether it has layers to be written */
  mustWait(flushes: boolean): boolean {
    const used = this.usedBytes + this.#allowedBytes;
    if (flushes) return used > this.#capacityBytes * OWN_LIMIT;
    return used > this.#capacityBytes * COMMON_LIMIT && this.#frozenBytes > this.#failingBytes;
  }

  /**
   * Resolves when a timeline that has nothing to be written may go on. They go on in the order in
   * which they came, no more of them at once than there is room for.
   */
  turn(user: MemoryUser): Promise<void> {
    return new Promise((goOn) => {
      this.#waiting.push({ user, goOn });
      this.#letGoOn();
    });
  }

  /**
   * Reports a timeline's open and frozen memory. May make others freeze theirs.
   *
   * @param fails whether the last flush of the frozen layers has failed
   */
  set(user: MemoryUser, openBytes: number, frozenBytes: number, fails: boolean): void {
    const account = this.#account(user);
    this.#openBytes += openBytes - account.openBytes;
    this.#frozenBytes += frozenBytes - account.frozenBytes;
    this.#failingBytes += (fails ? frozenBytes : 0) - (account.fails ? account.frozenBytes : 0);
    this.#allowedBytes -= account.allowedBytes;
    Object.assign(account, { openBytes, frozenBytes, fails, allowedBytes: 0 });
    if (this.#openBytes > this.#capacityBytes * OWN_LIMIT / 2) this.#freezeLargest();
    this.#letGoOn();
  }

  remove(user: MemoryUser): void {
    this.set(user, 0, 0, false);
    this.#accounts.delete(user);
  }

  #account(user: MemoryUser): Account {
    let account = this.#accounts.get(user);
    if (account === undefined) {
      account = { user, openBytes: 0, frozenBytes: 0, fails: false, allowedBytes: 0 };
      this.#accounts.set(user, account);
    }
    return account;
  }

  #letGoOn(): void {
    while (this.#waiting.length > 0 && !this.mustWait(false)) {
      const { user, goOn } = this.#waiting.shift()!;
      const account = this.#accounts.get(user);
      if (account !== undefined) {
        this.#allowedBytes += TURN_BYTES - account.allowedBytes;
        account.allowedBytes = TURN_BYTES;
      }
      goOn();
    }
  }

  #freezeLargest(): void {
    let largest: Account | null = null;
    for (const account of this.#accounts.values()) {
      // A timeline that is already writing out a layer has its turn later.
      if (account.frozenBytes === 0 && account.openBytes > (largest?.openBytes ?? 0)) largest = account;
    }
    largest?.user.giveBack();
  }
}
