/** Tells if this disk has room for more layers. Timelines take no WAL while it has none. */
export class LayerRoom {
  #full: Promise<void> | null = null;
  #empty: () => void = () => {};

  get isFull(): boolean {
    return this.#full !== null;
  }

  /** @returns whether this is a change */
  setFull(isFull: boolean): boolean {
    if (isFull === this.isFull) return false;
    if (isFull) {
      this.#full = new Promise((resolve) => {
        this.#empty = resolve;
      });
    } else {
      this.#full = null;
      this.#empty();
    }
    return true;
  }

  /** Resolves when there is room. */
  async free(): Promise<void> {
    while (this.#full !== null) await this.#full;
  }
}
