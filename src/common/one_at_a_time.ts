/** Runs pieces of work one at a time, in the order of the calls. */
export class OneAtATime {
  #last: Promise<unknown> = Promise.resolve();

  /** Starts `work` when all earlier work has ended, even if that failed. Settles as `work` does. */
  run<T>(work: () => T | Promise<T>): Promise<T> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => undefined);
    return done;
  }

  /** Resolves when all work submitted so far has ended. */
  async settled(): Promise<void> {
    await this.#last;
  }
}
