/**
 * Limits the memory layers of all timelines together. Half of the budget is for layers that are
 * being filled: when they exceed it, the largest is frozen and written out. When the other half
 * does not suffice for what waits to be written, writers wait too.
 */
import { assert } from "../../common/assert.ts";

/**
 * The part of the budget that is kept free, for what writers take in before they are asked to wait.
 */
const HEADROOM = 1 / 8;

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
}

export class MemoryBudget {
  readonly #limitBytes: number;
  #openBytes = 0;
  #frozenBytes = 0;
  readonly #accounts = new Map<MemoryUser, Account>();

  constructor(capacityBytes: number) {
    assert(capacityBytes > 0, "memory layers need memory");
    this.#limitBytes = capacityBytes * (1 - HEADROOM);
  }

  get usedBytes(): number {
    return this.#openBytes + this.#frozenBytes;
  }

  /** Whether timelines with layers that wait for a flush must stop taking WAL. */
  get isExceeded(): boolean {
    return this.usedBytes > this.#limitBytes;
  }

  /** Reports a timeline's open and frozen memory. May make others freeze theirs. */
  set(user: MemoryUser, openBytes: number, frozenBytes: number): void {
    let account = this.#accounts.get(user);
    if (account === undefined) {
      account = { user, openBytes: 0, frozenBytes: 0 };
      this.#accounts.set(user, account);
    }
    this.#openBytes += openBytes - account.openBytes;
    this.#frozenBytes += frozenBytes - account.frozenBytes;
    account.openBytes = openBytes;
    account.frozenBytes = frozenBytes;
    if (this.#openBytes > this.#limitBytes / 2) this.#freezeLargest();
  }

  remove(user: MemoryUser): void {
    this.set(user, 0, 0);
    this.#accounts.delete(user);
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
