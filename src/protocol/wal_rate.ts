/** Slows down a tenant that writes WAL faster than it may. */

/** How much may come at once after a pause: what a second allows. */
const BURST_S = 1;

/**
 * The longest pause. A proposer takes a safekeeper that has been silent for ten seconds for dead,
 * so a rate below one message per second is not kept.
 */
const PAUSE_MAX_MS = 1_000;

/** A bucket that fills with time and empties with bytes. */
export class WalRate {
  /** How many bytes may come now; below zero when more have come than may. */
  #free = 0;
  #atMs = -Infinity;

  /**
   * @param perSecond null for no limit
   * @param nowMs by a clock that never goes back
   * @returns for how long to take nothing more, in milliseconds
   */
  take(bytes: number, perSecond: number | null, nowMs: number): number {
    if (perSecond === null) {
      this.#atMs = -Infinity;
      return 0;
    }
    const most = perSecond * BURST_S;
    const passedS = (nowMs - this.#atMs) / 1000;
    this.#free = Math.min(most, this.#free + passedS * perSecond) - bytes;
    this.#atMs = nowMs;
    if (this.#free >= 0) return 0;
    const pauseMs = perSecond === 0 ? PAUSE_MAX_MS : Math.min(PAUSE_MAX_MS, -this.#free * 1000 / perSecond);
    // What such a pause doesn't make up for is forgotten, or a long one would follow for each.
    this.#free = Math.max(this.#free, -pauseMs * perSecond / 1000);
    return pauseMs;
  }
}
