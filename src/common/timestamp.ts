/**
 * Points in time as PostgreSQL stores them (`TimestampTz`): microseconds since 2000-01-01 UTC, in a
 * `number`. A number is exact for the years 1715 to 2285.
 */
import { ZenithError } from "./errors.ts";

/**
 * 2000-01-01 UTC in milliseconds since 1970 (POSTGRES_EPOCH_JDATE,
 * src/include/datatype/timestamp.h).
 */
const POSTGRES_EPOCH_MS = 946_684_800_000;
const US_PER_MS = 1000;

const PATTERN =
  /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)? ?(z|utc|[+-]\d\d(?::?\d\d)?)?$/i;

/**
 * The zone of a text that names none: this process's (`local`), or none, so that the text is
 * refused.
 */
export type DefaultZone = "local" | "none";

/**
 * Parses RFC 3339 (`2026-11-22T09:30:00.5Z`) and PostgreSQL's style (`2026-11-22 09:30:00.5+01`,
 * `2026-11-22 09:30`, `2026-11-22`).
 *
 * @returns microseconds since 2000-01-01 UTC
 * @throws {ZenithError} `invalid_argument` when the text has another form, names a day or time that
 *   doesn't exist, or lacks a zone that it needs
 */
export function parseTimestamp(text: string, defaultZone: DefaultZone): number {
  const match = PATTERN.exec(text.trim());
  if (match === null) throw invalid(text, "expected one like 2026-11-22T09:30:00Z or 2026-11-22 09:30:00+01");
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map((part) => Number(part ?? 0));
  const micros = Number((match[7] ?? "").padEnd(6, "0").slice(0, 6));
  const zone = match[8];
  // Date.UTC turns the 31st of April into the 1st of May.
  const utcMs = Date.UTC(year!, month! - 1, day!, hour, minute, second);
  const date = new Date(utcMs);
  if (
    date.getUTCMonth() !== month! - 1 || date.getUTCDate() !== day || hour! > 23 || minute! > 59 ||
    second! > 59
  ) {
    throw invalid(text, "there is no such day or time");
  }
  if (zone === undefined && defaultZone === "none") {
    throw invalid(text, "it needs a time zone", "end it with Z, or with an offset such as +01:00");
  }
  const ms = zone === undefined
    ? new Date(year!, month! - 1, day!, hour, minute, second).getTime()
    : utcMs - zoneOffsetMs(zone);
  return (ms - POSTGRES_EPOCH_MS) * US_PER_MS + micros;
}

function zoneOffsetMs(zone: string): number {
  const match = /^([+-])(\d\d):?(\d\d)?$/.exec(zone);
  if (match === null) return 0;
  const minutes = Number(match[2]) * 60 + Number(match[3] ?? 0);
  return (match[1] === "-" ? -minutes : minutes) * 60_000;
}

function invalid(text: string, why: string, hint?: string): ZenithError {
  return new ZenithError(
    "invalid_argument",
    `"${text}" is not a point in time: ${why}`,
    hint === undefined ? {} : { hint },
  );
}

/** Prints RFC 3339 in UTC, with microseconds: `2026-11-22T09:30:00.500000Z`. */
export function formatTimestamp(timestamp: number): string {
  const ms = Math.floor(timestamp / US_PER_MS);
  const micros = timestamp - ms * US_PER_MS;
  return new Date(ms + POSTGRES_EPOCH_MS).toISOString().replace("Z", `${String(micros).padStart(3, "0")}Z`);
}

/** Prints a time for names, in UTC: `20261122-093000`. */
export function formatTimeForName(time: Date): string {
  const [day, ofDay] = time.toISOString().split(/[T.]/);
  return `${day!.replaceAll("-", "")}-${ofDay!.replaceAll(":", "")}`;
}

/** Converts from milliseconds since 1970, as `Date.now()` returns them. */
export function timestampOfMs(unixMs: number): number {
  return (unixMs - POSTGRES_EPOCH_MS) * US_PER_MS;
}

/** Converts to milliseconds since 1970. */
export function msOfTimestamp(timestamp: number): number {
  return timestamp / US_PER_MS + POSTGRES_EPOCH_MS;
}
