/** Parses and prints durations as people write them. */
import { ZenithError } from "./errors.ts";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/**
 * The milliseconds of each unit, under all its names. `m` is a minute, as in Go and systemd, and as
 * PostgreSQL's `min`.
 */
const UNIT_MS: ReadonlyMap<string, number> = new Map([
  ...names(1, "ms", "msec", "msecs", "millisecond", "milliseconds"),
  ...names(SECOND, "s", "sec", "secs", "second", "seconds"),
  ...names(MINUTE, "m", "min", "mins", "minute", "minutes"),
  ...names(HOUR, "h", "hr", "hrs", "hour", "hours"),
  ...names(DAY, "d", "day", "days"),
  ...names(7 * DAY, "w", "week", "weeks"),
]);

function names(ms: number, ...units: string[]): [string, number][] {
  return units.map((unit) => [unit, ms]);
}

/** Nobody writes a longer duration. The limit bounds the time that parsing takes. */
const MAX_LENGTH = 64;

/**
 * Parses `90s`, `1 second`, `2h30m`, `1 day 12 hours`, `250ms`.
 *
 * @returns milliseconds
 * @throws {ZenithError} `invalid_argument`
 */
export function parseDuration(text: string): number {
  const ms = readDuration(text);
  if (ms !== undefined) return ms;
  throw new ZenithError(
    "invalid_argument",
    `"${text.slice(0, MAX_LENGTH)}" is not a duration: expected one like 90s, 30m, 2h30m or 7d`,
  );
}

/** Like {@link parseDuration}, but returns undefined when `text` is not a duration. */
export function readDuration(text: string): number | undefined {
  const trimmed = text.trim().toLowerCase();
  if (trimmed === "" || trimmed.length > MAX_LENGTH) return undefined;
  let total = 0;
  let at = 0;
  for (const match of trimmed.matchAll(/(\d{1,9}) ?([a-z]+) ?/g)) {
    const unit = UNIT_MS.get(match[2]);
    if (match.index !== at || unit === undefined) return undefined;
    total += Number(match[1]) * unit;
    at += match[0].length;
  }
  return at === trimmed.length ? total : undefined;
}

/** The units for printing, largest first. */
const PRINTED: readonly (readonly [string, number])[] = [["d", DAY], ["h", HOUR], ["m", MINUTE], [
  "s",
  SECOND,
]];

/** Prints a duration in the largest unit that leaves no remainder: `2h`. */
export function formatDuration(ms: number): string {
  for (const [unit, length] of PRINTED) {
    if (ms !== 0 && ms % length === 0) return `${ms / length}${unit}`;
  }
  return `${ms}ms`;
}
