/**
 * Parses and prints moments of a branch's past as people type them: `main@0/16B5A50`, `main@-5m`,
 * `main@yesterday 14:00`.
 */
import { readDuration } from "./duration.ts";
import { ZenithError } from "./errors.ts";
import { formatLsn, type Lsn, parseLsn } from "./lsn.ts";
import { formatTimestamp, parseTimestamp, timestampOfMs } from "./timestamp.ts";

/** A place on a branch: its end, an LSN, or just after the last commit up to a point in time. */
export type Moment =
  | { readonly kind: "end" }
  | { readonly kind: "lsn"; readonly lsn: Lsn }
  /** Microseconds since 2000. */
  | { readonly kind: "time"; readonly timestamp: number };

/**
 * Parses an LSN, `now` (the branch's end), `-5m` or `5m ago`, `14:30`, `today 14:30`, `yesterday`
 * (its first moment), `yesterday 14:00`, and what {@link parseTimestamp} accepts. A time without a
 * zone is local.
 *
 * @param nowMs the present, in milliseconds since 1970
 * @throws {ZenithError} `invalid_argument`
 */
export function parseMoment(text: string, nowMs: number = Date.now()): Moment {
  const word = text.trim().toLowerCase();
  if (word === "" || word === "now") return { kind: "end" };
  if (word.includes("/")) return { kind: "lsn", lsn: parseLsn(word) };
  const backMs = readAgo(word);
  if (backMs !== undefined) return { kind: "time", timestamp: timestampOfMs(nowMs - backMs) };
  const dayMs = readDay(word, nowMs);
  if (dayMs !== undefined) return { kind: "time", timestamp: timestampOfMs(dayMs) };
  if (/^\d{4}-/.test(word)) return { kind: "time", timestamp: parseTimestamp(text, "local") };
  throw new ZenithError("invalid_argument", `"${text.slice(0, 100)}" is neither an LSN nor a point in time`, {
    hint: "for example 0/16B5A50, -5m, yesterday 14:00, 2026-11-22T09:30, 2026-11-22T09:30:00Z",
  });
}

/** Parses `-5m` or `5m ago`. @returns milliseconds before the present */
function readAgo(word: string): number | undefined {
  if (word.startsWith("-")) return readDuration(word.slice(1));
  return word.endsWith(" ago") ? readDuration(word.slice(0, -" ago".length)) : undefined;
}

/**
 * Parses `14:30`, `today` or `yesterday 14:00` by the local clock. @returns milliseconds since 1970
 */
function readDay(word: string, nowMs: number): number | undefined {
  const match = /^(?:(today|yesterday)(?: |$))?(?:(\d{1,2}):(\d\d)(?::(\d\d))?)?$/.exec(word);
  if (match === null) return undefined;
  const [, day, hour = "0", minute = "0", second = "0"] = match;
  if (Number(hour) > 23 || Number(minute) > 59 || Number(second) > 59) return undefined;
  const date = new Date(nowMs);
  if (day === "yesterday") date.setDate(date.getDate() - 1);
  return date.setHours(Number(hour), Number(minute), Number(second), 0);
}

/** A branch, given by its name or its timeline's id, and a moment on it. */
export interface BranchPoint {
  readonly name: string;
  readonly moment: Moment;
}

/** Parses `name` or `name@moment`. @throws {ZenithError} as {@link parseMoment} */
export function parseBranchPoint(text: string, nowMs?: number): BranchPoint {
  const at = text.indexOf("@");
  if (at < 0) return { name: text, moment: { kind: "end" } };
  const moment = text.slice(at + 1);
  if (moment === "") {
    throw new ZenithError("invalid_argument", `"${text}" has no moment after "@"`, {
      hint: `for example ${text}0/16B5A50, ${text}-5m, ${text}2026-11-22T09:30`,
    });
  }
  return { name: text.slice(0, at), moment: parseMoment(moment, nowMs) };
}

/** Prints a branch point for the page server, which may be in another time zone. */
export function formatBranchPoint({ name, moment }: BranchPoint): string {
  switch (moment.kind) {
    case "end":
      return name;
    case "lsn":
      return `${name}@${formatLsn(moment.lsn)}`;
    case "time":
      return `${name}@${formatTimestamp(moment.timestamp)}`;
  }
}
