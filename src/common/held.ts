/**
 * Opens things when they are first asked for, and closes them when nobody has needed them for a
 * while.
 */

/** Keeps a value open until the hold is disposed of. */
export interface Hold<T> extends Disposable {
  readonly value: T;
}

export interface HeldOptions<K, T> {
  open(key: K): Promise<T>;
  /**
   * Releases the value. Nobody can get it any more: a caller that asks for it waits until it is
   * closed.
   */
  close(value: T): Promise<void>;
  /** Any clock will do. */
  nowMs(): number;
}

interface Entry<T> {
  readonly opening: Promise<T>;
  /** Set once it is open. */
  value: T | undefined;
  holders: number;
  /** When its last user left. Holds that are not uses don't count. */
  usedMs: number;
}

/**
 * Values by key, each open at most once: a value is opened again only after it was closed. A holder
 * is counted in the same task that looks up the value, so nobody gets a value that is being closed.
 */
export class HeldOnes<K, T> {
  readonly #options: HeldOptions<K, T>;
  readonly #entries = new Map<K, Entry<T>>();
  readonly #closing = new Map<K, Promise<void>>();

  constructor(options: HeldOptions<K, T>) {
    this.#options = options;
  }

  /**
   * Holds a value, and opens it if it isn't open.
   *
   * @param isUse false for upkeep, and for values that depend on this one: such a hold doesn't make
   *   it recently used
   * @throws what opening it throws; the next caller tries again
   */
  async hold(key: K, isUse = true): Promise<Hold<T>> {
    const entry = this.#entries.get(key) ?? this.#open(key, isUse);
    entry.holders++;
    try {
      return this.#holdOf(entry, await entry.opening, isUse);
    } catch (error) {
      entry.holders--;
      throw error;
    }
  }

  /** Like {@link hold}, but returns null if the value isn't open. Doesn't count as a use. */
  holdIfOpen(key: K): Hold<T> | null {
    const entry = this.#entries.get(key);
    if (entry?.value === undefined) return null;
    entry.holders++;
    return this.#holdOf(entry, entry.value, false);
  }

  /** Adds a value that was just created. */
  async add(key: K, opening: Promise<T>): Promise<Hold<T>> {
    const entry = this.#enter(key, opening, true);
    entry.holders++;
    return this.#holdOf(entry, await opening, true);
  }

  #holdOf(entry: Entry<T>, value: T, isUse: boolean): Hold<T> {
    let isHeld = true;
    return {
      value,
      [Symbol.dispose]: () => {
        if (!isHeld) return;
        isHeld = false;
        entry.holders--;
        if (isUse) entry.usedMs = this.#options.nowMs();
      },
    };
  }

  #open(key: K, isUse: boolean): Entry<T> {
    const closed = this.#closing.get(key)?.catch(() => undefined);
    const opening = closed === undefined
      ? this.#options.open(key)
      : closed.then(() => this.#options.open(key));
    return this.#enter(key, opening, isUse);
  }

  #enter(key: K, opening: Promise<T>, isUse: boolean): Entry<T> {
    const usedMs = isUse ? this.#options.nowMs() : -Infinity;
    const entry: Entry<T> = { opening, value: undefined, holders: 0, usedMs };
    this.#entries.set(key, entry);
    opening.then(
      (value) => {
        entry.value = value;
      },
      () => this.#remove(key, entry),
    );
    return entry;
  }

  #remove(key: K, entry: Entry<T>): void {
    if (this.#entries.get(key) === entry) this.#entries.delete(key);
  }

  /** The values that are open, held or not. */
  opened(): T[] {
    return [...this.#entries.values()].flatMap(({ value }) => value === undefined ? [] : [value]);
  }

  /** Returns the value if it is open, null while it is being opened, and undefined otherwise. */
  peek(key: K): T | null | undefined {
    const entry = this.#entries.get(key);
    return entry === undefined ? undefined : entry.value ?? null;
  }

  /**
   * Returns the value, and waits for one that is being opened. Undefined when it isn't open or
   * can't be opened.
   */
  async ifOpen(key: K): Promise<T | undefined> {
    return await this.#entries.get(key)?.opening.catch(() => undefined);
  }

  /**
   * Closes the values that nobody holds and that nobody has used for `idleMs`.
   *
   * @param prepare gets a value ready to be closed while it can still be used; returns false to
   *   keep it open
   * @param closes called for each value at the moment from which it must be opened again
   * @throws the first failure; the other values are closed all the same
   */
  async closeIdle(
    idleMs: number,
    prepare: (value: T) => Promise<boolean>,
    closes: (key: K, value: T) => void = () => {},
  ): Promise<void> {
    const failures: unknown[] = [];
    for (const [key, entry] of [...this.#entries]) {
      try {
        if (!await this.#isReady(key, entry, idleMs, prepare)) continue;
        this.#entries.delete(key);
        closes(key, entry.value!);
        await this.#close(key, entry.value!);
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  async #isReady(
    key: K,
    entry: Entry<T>,
    idleMs: number,
    prepare: (value: T) => Promise<boolean>,
  ): Promise<boolean> {
    if (!this.#isIdle(key, entry, idleMs)) return false;
    entry.holders++;
    try {
      if (!await prepare(entry.value!)) return false;
    } finally {
      entry.holders--;
    }
    // Somebody may have used it meanwhile.
    return this.#isIdle(key, entry, idleMs);
  }

  #isIdle(key: K, entry: Entry<T>, idleMs: number): boolean {
    return this.#entries.get(key) === entry && entry.value !== undefined && entry.holders === 0 &&
      this.#options.nowMs() - entry.usedMs >= idleMs;
  }

  async #close(key: K, value: T): Promise<void> {
    const closing = this.#options.close(value).finally(() => {
      if (this.#closing.get(key) === closing) this.#closing.delete(key);
    });
    this.#closing.set(key, closing);
    await closing;
  }

  /**
   * Closes a value even if it is held, because it is about to be removed. It can be opened again
   * once this has resolved.
   */
  async closeNow(key: K): Promise<void> {
    const entry = this.#entries.get(key);
    if (entry === undefined) {
      await this.#closing.get(key)?.catch(() => undefined);
      return;
    }
    try {
      await this.#options.close(await entry.opening);
    } finally {
      this.#remove(key, entry);
    }
  }

  /** Resolves when no value is being opened or closed. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.#entries.values()].map(({ opening }) => opening));
    await Promise.allSettled(this.#closing.values());
  }
}
