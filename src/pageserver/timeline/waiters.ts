/** Queues readers that wait for an LSN to arrive. */
import { ZenithError } from "../../common/errors.ts";
import { formatLsn, type Lsn } from "../../common/lsn.ts";

interface Waiter {
  readonly lsn: Lsn;
  readonly resolve: () => void;
  /** Removes the waiter's timer and listener. */
  readonly settle: () => void;
  readonly reject: (error: Error) => void;
  /** The waiter's index in the heap. */
  at: number;
}

/**
 * Readers that wait for an LSN to arrive on a timeline. They are kept in a heap with the lowest LSN
 * on top, so that waking or dropping one takes logarithmic time. Callers limit how many may wait.
 */
export class LsnWaiters {
  readonly #heap: Waiter[] = [];

  /** How many readers wait. */
  get size(): number {
    return this.#heap.length;
  }

  /**
   * Resolves once {@link reached} is called with `lsn` or more.
   *
   * @param signal ends the wait with its reason, when the client is gone
   * @throws {ZenithError} `timeout` after `timeoutMs`. The message names `where`
   */
  wait(lsn: Lsn, timeoutMs: number, where: () => string, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(signal.reason);
        return;
      }
      const giveUp = (error: unknown): void => {
        this.#remove(waiter);
        waiter.settle();
        reject(error);
      };
      const onAbort = (): void => giveUp(signal!.reason);
      const timer = setTimeout(() => {
        giveUp(
          new ZenithError(
            "timeout",
            `LSN ${formatLsn(lsn)} did not arrive within ${timeoutMs} ms: ${where()}`,
            {
              hint: "is the compute running, and does it reach this page server?",
            },
          ),
        );
      }, timeoutMs);
      const settle = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", onAbort);
      };
      const waiter: Waiter = { lsn, resolve, reject, settle, at: this.#heap.length };
      signal?.addEventListener("abort", onAbort);
      this.#heap.push(waiter);
      this.#rise(waiter);
    });
  }

  /** Wakes the readers that wait for `lsn` or less. */
  reached(lsn: Lsn): void {
    for (let first = this.#heap[0]; first !== undefined && first.lsn <= lsn; first = this.#heap[0]) {
      this.#remove(first);
      first.settle();
      first.resolve();
    }
  }

  /** Fails all remaining waiters. */
  abandon(error: Error): void {
    for (const waiter of this.#heap.splice(0)) {
      waiter.settle();
      waiter.reject(error);
    }
  }

  #remove(waiter: Waiter): void {
    const last = this.#heap.pop()!;
    if (last === waiter) return;
    this.#put(last, waiter.at);
    this.#rise(last);
    this.#sink(last);
  }

  #rise(waiter: Waiter): void {
    while (waiter.at > 0) {
      const parent = this.#heap[(waiter.at - 1) >> 1];
      if (parent.lsn <= waiter.lsn) return;
      this.#swap(waiter, parent);
    }
  }

  #sink(waiter: Waiter): void {
    for (;;) {
      const left = this.#heap[2 * waiter.at + 1];
      const right = this.#heap[2 * waiter.at + 2];
      const lower = right !== undefined && right.lsn < left!.lsn ? right : left;
      if (lower === undefined || lower.lsn >= waiter.lsn) return;
      this.#swap(waiter, lower);
    }
  }

  #swap(a: Waiter, b: Waiter): void {
    const at = a.at;
    this.#put(a, b.at);
    this.#put(b, at);
  }

  #put(waiter: Waiter, at: number): void {
    this.#heap[at] = waiter;
    waiter.at = at;
  }
}
