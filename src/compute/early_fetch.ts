/** A fetch of the data directory that begins before it is certain where Postgres will start. */
import type { Lsn } from "../common/lsn.ts";

/**
 * Fetches the data directory of the LSN at which Postgres will most likely start, while safekeepers
 * hold their election. That settles where it does start.
 */
export class EarlyFetch {
  readonly lsn: Lsn;
  readonly #givingUp = new AbortController();
  readonly #fetched: Promise<void>;

  /**
   * @param signal ends the fetch, with the error to end with
   * @param fetch writes nothing any more once it has settled
   */
  constructor(lsn: Lsn, signal: AbortSignal, fetch: (lsn: Lsn, signal: AbortSignal) => Promise<void>) {
    this.lsn = lsn;
    this.#fetched = fetch(lsn, AbortSignal.any([signal, this.#givingUp.signal]));
    // It may fail before anybody waits for it.
    this.#fetched.catch(() => {});
  }

  /** Resolves when the data directory is complete. @throws what `fetch` throws */
  done(): Promise<void> {
    return this.#fetched;
  }

  /** Ends the fetch. Resolves when nothing of it is going on. */
  async giveUp(): Promise<void> {
    this.#givingUp.abort(new Error("the data directory of another LSN is needed"));
    await this.#fetched.catch(() => {});
  }
}
