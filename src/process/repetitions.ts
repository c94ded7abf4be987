/** Finds log lines that repeat too often. Pure, except for the clock passed in. */

/** How many similar lines are written per window. The rest are only counted. */
const LINES_PER_WINDOW = 20;
const WINDOW_MS = 60_000;

/**
 * How many kinds of lines are told apart. All others count as one kind: an error's text contains a
 * peer's words, so there can be any number of kinds.
 */
const KINDS_MAX = 200;
const KIND_MAX_LENGTH = 200;
const OTHER = "";

/** How often old kinds are forgotten: scanning all kinds is too slow to do for every line. */
const FORGET_INTERVAL_MS = 1_000;

interface Kind {
  sinceMs: number;
  lines: number;
  suppressed: number;
}

export class Repetitions {
  readonly #kinds = new Map<string, Kind>();
  readonly #nowMs: () => number;
  #forgotMs = 0;

  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs;
  }

  /**
   * @param text what the line says; lines that differ only in numbers are similar
   * @returns whether to write the line, and how many similar lines before it were not written
   */
  next(text: string): { readonly write: boolean; readonly suppressed: number } {
    const now = this.#nowMs();
    const wanted = text.slice(0, KIND_MAX_LENGTH).replace(/\d+/g, "#");
    let name = wanted;
    if (!this.#kinds.has(name) && this.#kinds.size >= KINDS_MAX) {
      this.#forgetOld(now);
      if (this.#kinds.size >= KINDS_MAX) name = OTHER;
    }
    let kind = this.#kinds.get(name);
    if (kind === undefined) this.#kinds.set(name, kind = { sinceMs: now, lines: 0, suppressed: 0 });
    if (now - kind.sinceMs >= WINDOW_MS) {
      const { suppressed } = kind;
      Object.assign(kind, { sinceMs: now, lines: 1, suppressed: 0 });
      return { write: true, suppressed };
    }
    if (kind.lines >= LINES_PER_WINDOW) {
      kind.suppressed++;
      return { write: false, suppressed: 0 };
    }
    kind.lines++;
    return { write: true, suppressed: 0 };
  }

  #forgetOld(now: number): void {
    if (now - this.#forgotMs < FORGET_INTERVAL_MS) return;
    this.#forgotMs = now;
    for (const [name, { sinceMs, suppressed }] of this.#kinds) {
      if (suppressed === 0 && now - sinceMs >= WINDOW_MS) this.#kinds.delete(name);
    }
  }
}
