/** A unified diff as two columns: what is on one line stands beside what has become of it. */

export interface Cell {
  /** The line's number in its file. */
  readonly number: number;
  readonly text: string;
}

export interface Pair {
  /** `gap`: lines that are the same on both sides are left out before the next one. */
  readonly kind: "same" | "changed" | "gap";
  readonly left?: Cell;
  readonly right?: Cell;
}

const HUNK = /^@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@/;

/** @param lines of a unified diff, with or without the two that name the files */
export function sideBySide(lines: readonly string[]): Pair[] {
  const pairs: Pair[] = [];
  let [old, now] = [1, 1];
  let removed: Cell[] = [];
  let added: Cell[] = [];
  const flush = () => {
    for (let i = 0; i < Math.max(removed.length, added.length); i++) {
      const [left, right] = [removed[i], added[i]];
      pairs.push({
        kind: "changed",
        ...(left === undefined ? {} : { left }),
        ...(right === undefined ? {} : { right }),
      });
    }
    [removed, added] = [[], []];
  };
  let isInHunk = false;
  for (const line of lines) {
    const hunk = HUNK.exec(line);
    if (hunk !== null) {
      flush();
      if (isInHunk) pairs.push({ kind: "gap" });
      isInHunk = true;
      [old, now] = [Number(hunk[1]), Number(hunk[2])];
    } else if (!isInHunk) continue;
    else if (line.startsWith("-")) removed.push({ number: old++, text: line.slice(1) });
    else if (line.startsWith("+")) added.push({ number: now++, text: line.slice(1) });
    else {
      flush();
      const text = line.slice(1);
      pairs.push({ kind: "same", left: { number: old++, text }, right: { number: now++, text } });
    }
  }
  flush();
  return pairs;
}
