/** Durations as people write them: `90s`, `30m`, `2h`, `7d`. */
import { ZenithError } from "./errors.ts";

const UNIT_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/**
 * Reads `90s`, `30m`, `2h`, `7d`, `250ms`.
 *
 * @returns milliseconds
 * @throws {ZenithError} `invalid_argument`
 */
export function parseDuration(text: string): number {
  const match = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text.trim().toLowerCase());
  if (match === null) {
    throw new ZenithError(
      "invalid_argument",
      `"${text}" is not a duration: expected one like 90s, 30m, 2h or 7d`,
    );
  }
  return Number(match[1]) * UNIT_MS[match[2]]!;
}

/** Prints in the largest unit that leaves no remainder: `2h`. */
export function formatDuration(ms: number): string {
  for (const unit of ["d", "h", "m", "s"]) {
    if (ms !== 0 && ms % UNIT_MS[unit] === 0) return `${ms / UNIT_MS[unit]}${unit}`;
  }
  return `${ms}ms`;
}
