/**
 * Lets tenants take turns at a thread that all of them share. A tenant that asks for much gets a
 * slice of time, then everybody else who waits, then it again. So how long another one waits
 * depends on how many tenants are busy, and not on how much they ask for or over how many
 * connections.
 */

import { setImmediate } from "node:timers";

/** A slice while others have asked for something lately, in milliseconds: some pages. */
const SLICE_MS = 0.1;

/** A slice while nobody else has. To look for others costs a few microseconds. */
const SLICE_ALONE_MS = 2;

/** A tenant that has asked for nothing for this long is no reason to hurry. */
const RECENT_MS = 1_000;

/** What turns need of their surroundings, so that tests can play them. */
export interface Surroundings {
  /** In milliseconds. */
  now(): number;
  /** Calls back when the thread has noticed what has arrived meanwhile, from anybody. */
  afterOthers(callback: () => void): void;
}

const THREAD: Surroundings = {
  now: () => performance.now(),
  afterOthers: (callback) => void setImmediate(callback),
};

/** A tenant's share of the thread. */
interface Party {
  /** What it has had of its slice, in milliseconds. */
  spentMs: number;
  lastMs: number;
  /** Who waits for its next turn, in order. */
  readonly waiting: (() => void)[];
  /** How many work on its account. */
  members: number;
}

export class Turns<Key> {
  readonly #surroundings: Surroundings;
  readonly #parties = new Map<Key, Party>();
  #sliceMs = SLICE_ALONE_MS;
  #planned = false;

  constructor(surroundings: Surroundings = THREAD) {
    this.#surroundings = surroundings;
  }

  /** Lets somebody, such as a connection, work on a tenant's account. */
  join(key: Key): Turn {
    let party = this.#parties.get(key);
    if (party === undefined) {
      this.#parties.set(key, party = { spentMs: 0, lastMs: -Infinity, waiting: [], members: 0 });
    }
    party.members++;
    const own = party;
    const { now } = this.#surroundings;
    return {
      begin: () => {
        if (own.spentMs >= this.#sliceMs) return -1;
        const nowMs = now();
        const wasRecent = nowMs - own.lastMs < RECENT_MS;
        own.lastMs = nowMs;
        if (!wasRecent) this.#measureSlice(nowMs);
        return nowMs;
      },
      end: (beganMs) => {
        own.spentMs += now() - beganMs;
      },
      wait: (work) => {
        own.waiting.push(work);
        this.#plan();
      },
      [Symbol.dispose]: () => {
        if (--own.members > 0) return;
        this.#parties.delete(key);
        // Whoever waits still is let go now: there are no more turns for him.
        own.spentMs = -Infinity;
        for (const work of own.waiting.splice(0)) work();
      },
    };
  }

  #measureSlice(nowMs: number): void {
    let recent = 0;
    for (const { lastMs } of this.#parties.values()) if (nowMs - lastMs < RECENT_MS) recent++;
    this.#sliceMs = recent > 1 ? SLICE_MS : SLICE_ALONE_MS;
  }

  #plan(): void {
    if (this.#planned) return;
    this.#planned = true;
    this.#surroundings.afterOthers(() => {
      this.#planned = false;
      this.#round();
    });
  }

  /** Gives a slice to each. */
  #round(): void {
    this.#measureSlice(this.#surroundings.now());
    const parties = [...this.#parties.values()];
    for (const party of parties) party.spentMs = 0;
    for (const party of parties) {
      // Who comes back with more goes behind the others of the tenant. Those whom the slice does
      // not reach are the next round's first.
      for (let left = party.waiting.length; left > 0 && party.spentMs < this.#sliceMs; left--) {
        party.waiting.shift()!();
      }
    }
    if (parties.some(({ waiting }) => waiting.length > 0)) this.#plan();
  }
}

/** The right to work in turns. */
export interface Turn extends Disposable {
  /** @returns when the work begins, for {@link end}; -1 when it has to {@link wait} */
  begin(): number;
  end(beganMs: number): void;
  /** Calls back at the next turn. The callee has to {@link begin} again. */
  wait(work: () => void): void;
}

/** Resolves at the next turn. Whoever waits has to {@link Turn.begin} again. */
export function turnOf(turn: Turn): Promise<void> {
  return new Promise((resolve) => turn.wait(resolve));
}
