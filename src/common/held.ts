/**
 * Things that are opened when they are first asked for, and closed when nobody has needed them for
 * a while.
 */

/** Keeps what it holds open until it is disposed of. */
export interface Hold<T> extends Disposable {
  readonly value: T;
}

export interface HeldOptions<K, T> {
  open(key: K): Promise<T>;
  /** Releases it. Nobody gets it any more; a caller that asks for it waits until this is done. */
  close(value: T): Promise<void>;
  /** Any clock. */
  nowMs(): number;
}

interface Entry<T> {
  readonly opening: Promise<T>;
  /** Once it is open. */
  value: T | undefined;
  holders: number;
  /** When its last user left; what keeps it open without using it does not count. */
  usedMs: number;
}

/**
 * Each key's value is open once at most: it is opened again only after it was closed. Holders are
 * counted in the same task in which the value is looked up, so that nobody is given one that is on
 * its way out.
 */
export class HeldOnes<K, T> {
  readonly #options: HeldOptions<K, T>;
  readonly #entries = new Map<K, Entry<T>>();
  readonly #closing = new Map<K, Promise<void>>();

  constructor(options: HeldOptions<K, T>) {
    this.#options = options;
  }

  /**
   * Opens it if it isn't open.
   *
   * @param isUse false for upkeep, and for what depends on it: that alone does not make it one that
   *   was used lately
   * @throws what opening it throws; the next one who asks tries again
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

  /** The same of one that is open already; null when it is not. Not a use. */
  holdIfOpen(key: K): Hold<T> | null {
    const entry = this.#entries.get(key);
    if (entry?.value === undefined) return null;
    entry.holders++;
    return this.#holdOf(entry, entry.value, false);
  }

  /** Adds one that was made just now. */
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

  /** Those that are open, held or not. */
  opened(): T[] {
    return [...this.#entries.values()].flatMap(({ value }) => value === undefined ? [] : [value]);
  }

  /** The value if it is open, null while it is being opened. */
  peek(key: K): T | null | undefined {
    const entry = this.#entries.get(key);
    return entry === undefined ? undefined : entry.value ?? null;
  }

  /** The value if it is open, or when it is; undefined when it is not, or can't be opened. */
  async ifOpen(key: K): Promise<T | undefined> {
    return await this.#entries.get(key)?.opening.catch(() => undefined);
  }

  /**
   * Closes those that nobody holds and nobody has used for `idleMs`.
   *
   * @param prepare makes one ready to be closed while it can still be used; false when it is not to
   *   be closed
   * @param closes called for each in the moment from which on it has to be opened again
   * @throws the first of what went wrong; the others are closed all the same
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
    // Somebody may have come meanwhile.
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
   * Closes one whoever holds it: it is to be gone. It can be opened again when this has resolved.
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

  /** Resolves when none is being opened or closed. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.#entries.values()].map(({ opening }) => opening));
    await Promise.allSettled(this.#closing.values());
  }
}
