import { ZenithError } from "../../common/errors.ts";
import { formatLsn, type Lsn } from "../../common/lsn.ts";

interface Waiter {
  readonly lsn: Lsn;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
  readonly timer: ReturnType<typeof setTimeout>;
}

/** Those who wait for an LSN to arrive on a timeline. */
export class LsnWaiters {
  #waiters: Waiter[] = [];

  /**
   * Resolves once {@link reached} is called with `lsn` or more.
   *
   * @throws {ZenithError} `timeout` after `timeoutMs`, naming `where`
   */
  wait(lsn: Lsn, timeoutMs: number, where: () => string): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiters = this.#waiters.filter((w) => w.timer !== timer);
        reject(
          new ZenithError(
            "timeout",
            `LSN ${formatLsn(lsn)} did not arrive within ${timeoutMs} ms: ${where()}`,
            {
              hint: "is the compute running, and does it reach this page server?",
            },
          ),
        );
      }, timeoutMs);
      this.#waiters.push({ lsn, resolve, reject, timer });
    });
  }

  /** Wakes who waits for `lsn` or less. */
  reached(lsn: Lsn): void {
    if (this.#waiters.length === 0) return;
    const waiting: Waiter[] = [];
    for (const waiter of this.#waiters) {
      if (waiter.lsn > lsn) {
        waiting.push(waiter);
      } else {
        clearTimeout(waiter.timer);
        waiter.resolve();
      }
    }
    this.#waiters = waiting;
  }

  /** Fails all that still wait. */
  abandon(error: Error): void {
    for (const waiter of this.#waiters) {
      clearTimeout(waiter.timer);
      waiter.reject(error);
    }
    this.#waiters = [];
  }
}
