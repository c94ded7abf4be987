/** Backpressure: holds back a timeline's source of WAL. */
import type { Logger } from "../../process/log.ts";

/** How often the log mentions a source that is held back again and again. */
const LOG_INTERVAL_MS = 10_000;

/**
 * Records when a timeline's source of WAL is held back, because layers are written out more slowly
 * than WAL arrives.
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
   * Waits for `ready`, and holds back the source meanwhile.
   *
   * @param frozenBytes in memory layers that wait to be written out, for the log
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

  /** For `status`: whether the source is held back now, how often it was, and how long in all. */
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
