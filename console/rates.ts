/** How fast counters go up, from looks at them. */

export interface Look {
  /** By performance.now(). */
  readonly atMs: number;
  readonly values: ReadonlyMap<string, number>;
}

/** How fast one has gone up between two looks; undefined while that is not known. */
export function rateOf(before: Look | undefined, now: Look, name: string): number | undefined {
  const [was, is] = [before?.values.get(name), now.values.get(name)];
  if (before === undefined || was === undefined || is === undefined) return undefined;
  return perSecond(is - was, now.atMs - before.atMs);
}

/** Undefined for a counter that began anew. */
export function perSecond(by: number, ms: number): number | undefined {
  return by < 0 ? undefined : by / Math.max(ms / 1_000, 0.001);
}
