/** Computes the difference between two texts, in the form of `diff -u`. */

/** How many unchanged lines to show around a change. */
const CONTEXT = 3;
/**
 * Up to this many pairs of lines, the diff is exact: it comes from a longest common subsequence.
 */
const MAX_PAIRS = 4_000_000;

interface Line {
  readonly sign: " " | "-" | "+";
  readonly text: string;
}

/**
 * Returns the diff that turns `before` into `after`, without the header that names the two. Empty
 * when they are the same.
 */
export function unifiedDiff(before: readonly string[], after: readonly string[]): string[] {
  const lines: Line[] = [];
  compare(before, after, lines);
  const near = new Uint8Array(lines.length);
  lines.forEach(({ sign }, i) => {
    if (sign !== " ") near.fill(1, Math.max(0, i - CONTEXT), i + CONTEXT + 1);
  });
  const diff: string[] = [];
  let [old, now] = [1, 1];
  for (let i = 0; i < lines.length;) {
    if (near[i] === 0) {
      [old, now, i] = [old + 1, now + 1, i + 1];
      continue;
    }
    let end = i;
    while (end < lines.length && near[end] === 1) end++;
    const hunk = lines.slice(i, end);
    const olds = hunk.filter(({ sign }) => sign !== "+").length;
    const nows = hunk.filter(({ sign }) => sign !== "-").length;
    // The format gives an empty side the number of the line before it.
    diff.push(`@@ -${olds === 0 ? old - 1 : old},${olds} +${nows === 0 ? now - 1 : now},${nows} @@`);
    for (const { sign, text } of hunk) diff.push(sign + text);
    [old, now, i] = [old + olds, now + nows, end];
  }
  return diff;
}

function compare(before: readonly string[], after: readonly string[], lines: Line[]): void {
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start++;
  let same = 0;
  while (
    same < before.length - start && same < after.length - start &&
    before[before.length - 1 - same] === after[after.length - 1 - same]
  ) same++;
  for (const text of before.slice(0, start)) lines.push({ sign: " ", text });
  compareMiddle(
    before.slice(start, before.length - same),
    after.slice(start, after.length - same),
    lines,
  );
  for (const text of before.slice(before.length - same)) lines.push({ sign: " ", text });
}

/** Compares two texts whose first lines differ, and whose last lines differ. */
function compareMiddle(before: readonly string[], after: readonly string[], lines: Line[]): void {
  if (before.length * after.length <= MAX_PAIRS) return compareAll(before, after, lines);
  // Lines that occur once on each side anchor the comparison.
  let [old, now] = [0, 0];
  for (const [i, k] of anchors(before, after)) {
    compare(before.slice(old, i), after.slice(now, k), lines);
    lines.push({ sign: " ", text: before[i] });
    [old, now] = [i + 1, k + 1];
  }
  if (old > 0) return compare(before.slice(old), after.slice(now), lines);
  for (const text of before) lines.push({ sign: "-", text });
  for (const text of after) lines.push({ sign: "+", text });
}

/** Compares by the longest common subsequence. */
function compareAll(before: readonly string[], after: readonly string[], lines: Line[]): void {
  const width = after.length + 1;
  /** The length of the longest common subsequence from lines `i` and `k` on. */
  const longest = new Uint32Array((before.length + 1) * width);
  for (let i = before.length - 1; i >= 0; i--) {
    for (let k = after.length - 1; k >= 0; k--) {
      longest[i * width + k] = before[i] === after[k]
        ? longest[(i + 1) * width + k + 1] + 1
        : Math.max(longest[(i + 1) * width + k], longest[i * width + k + 1]);
    }
  }
  let [i, k] = [0, 0];
  while (i < before.length || k < after.length) {
    if (i < before.length && k < after.length && before[i] === after[k]) {
      lines.push({ sign: " ", text: before[i++] });
      k++;
    } else if (
      k === after.length || i < before.length && longest[(i + 1) * width + k] >= longest[i * width + k + 1]
    ) lines.push({ sign: "-", text: before[i++] });
    else lines.push({ sign: "+", text: after[k++] });
  }
}

/**
 * Finds pairs of the same line, ascending on both sides: the longest chain of lines that occur once
 * on each side.
 */
function anchors(before: readonly string[], after: readonly string[]): [number, number][] {
  const [olds, nows] = [placesOfUnique(before), placesOfUnique(after)];
  const pairs: [number, number][] = [];
  for (const [text, i] of olds) {
    const k = nows.get(text);
    if (i >= 0 && k !== undefined && k >= 0) pairs.push([i, k]);
  }
  // Patience sorting: for each length, `tops` has the pair where a chain of it ends earliest.
  const tops: number[] = [];
  const previous = new Int32Array(pairs.length);
  pairs.forEach(([, k], pair) => {
    let [low, high] = [0, tops.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (pairs[tops[middle]][1] < k) low = middle + 1;
      else high = middle;
    }
    previous[pair] = low === 0 ? -1 : tops[low - 1];
    tops[low] = pair;
  });
  const chain: [number, number][] = [];
  for (let pair = tops.at(-1) ?? -1; pair >= 0; pair = previous[pair]) chain.push(pairs[pair]);
  return chain.reverse();
}

/** Maps each line to its place, or to -1 if it occurs again. */
function placesOfUnique(lines: readonly string[]): Map<string, number> {
  const places = new Map<string, number>();
  lines.forEach((text, i) => places.set(text, places.has(text) ? -1 : i));
  return places;
}
