/** Applies backpressure: holds back a timeline's WAL source while layers are written out. */
import type { Logger } from "../../process/log.ts";

/** The minimum time between two log lines about a source that is held back repeatedly. */
const LOG_INTERVAL_MS = 10_000;

/**
 * Tracks when a timeline's WAL source is held back because WAL arrives faster than layers are
 * written out.
 */
export class Backpressure {
  readonly #logger: Logger;
  readonly #clockMs: () => number;
  #sinceMs: number | null = null;
  #totalMs = 0;
  #times = 0;
  #loggedMs = -Infinity;

  constructor(logger: Logger, clockMs: () => number) {
    this.#logger = logger;
    this.#clockMs = clockMs;
  }

  /**
   * Holds back the source until `ready` settles.
   *
   * @param frozenBytes bytes in memory layers that wait to be written out, for the log
   * @throws what `ready` rejects with
   */
  async hold(ready: Promise<void>, frozenBytes: number): Promise<void> {
    const startMs = this.#clockMs();
    this.#sinceMs = startMs;
    this.#times++;
    if (startMs - this.#loggedMs >= LOG_INTERVAL_MS) {
      this.#loggedMs = startMs;
      this.#logger.info("WAL comes faster than layers are written out: its source is held back", {
        frozen_bytes: frozenBytes,
        ...this.state,
      });
    }
    try {
      await ready;
    } finally {
      this.#totalMs += this.#clockMs() - startMs;
      this.#sinceMs = null;
    }
  }

  /**
   * For `status`: whether the source is held back now, how often it was held back, and for how long
   * in total.
   */
  get state(): {
    readonly held_back: boolean;
    readonly held_back_times: number;
    readonly held_back_ms: number;
  } {
    const nowMs = this.#sinceMs === null ? 0 : this.#clockMs() - this.#sinceMs;
    return {
      held_back: this.#sinceMs !== null,
      held_back_times: this.#times,
      held_back_ms: Math.round(this.#totalMs + nowMs),
    };
  }
}
