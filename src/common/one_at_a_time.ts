/** Runs pieces of work one after the other, in the order of the calls. */
export class OneAtATime {
  #last: Promise<unknown> = Promise.resolve();

  /** Starts `work` when all work before it has ended, even in failure. Settles as `work` does. */
  run<T>(work: () => T | Promise<T>): Promise<T> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => undefined);
    return done;
  }

  /** Resolves when all work so far has ended. */
  async settled(): Promise<void> {
    await this.#last;
  }
}
