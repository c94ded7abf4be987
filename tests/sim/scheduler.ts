/** Virtual time: things happen in the order of their times, those of the same time in the order they were asked for. */
export class Scheduler {
  #now = 0;
  #sequence = 0;
  /** A binary heap by (time, sequence). */
  readonly #heap: { time: number; sequence: number; run: () => void }[] = [];

  /** Milliseconds since the beginning. */
  get now(): number {
    return this.#now;
  }

  after(delay: number, run: () => void): void {
    const heap = this.#heap;
    heap.push({ time: this.#now + delay, sequence: this.#sequence++, run });
    let at = heap.length - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#isBefore(at, parent)) break;
      this.#swap(at, parent);
      at = parent;
    }
  }

  /** Runs the next thing. False: there is none, or it is later than `until`. */
  step(until: number): boolean {
    const next = this.#heap[0];
    if (next === undefined || next.time > until) {
      this.#now = Math.max(this.#now, until);
      return false;
    }
    const last = this.#heap.pop()!;
    if (this.#heap.length > 0) {
      this.#heap[0] = last;
      this.#sink();
    }
    this.#now = next.time;
    next.run();
    return true;
  }

  #sink(): void {
    let at = 0;
    for (;;) {
      let least = at;
      for (const child of [2 * at + 1, 2 * at + 2]) {
        if (child < this.#heap.length && this.#isBefore(child, least)) least = child;
      }
      if (least === at) return;
      this.#swap(at, least);
      at = least;
    }
  }

  #isBefore(a: number, b: number): boolean {
    const x = this.#heap[a];
    const y = this.#heap[b];
    return x.time < y.time || (x.time === y.time && x.sequence < y.sequence);
  }

  #swap(a: number, b: number): void {
    const x = this.#heap[a];
    this.#heap[a] = this.#heap[b];
    this.#heap[b] = x;
  }
}
