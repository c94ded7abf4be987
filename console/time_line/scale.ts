/** Time on the horizontal axis: from milliseconds to pixels, and where the ticks are. */
import { two } from "../format.ts";

/** The part of time that can be seen, in milliseconds since 1970. */
export interface View {
  readonly from: number;
  readonly to: number;
}

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Nobody needs less than a second or more than a working life. */
export const SPAN_MIN_MS = SECOND;
export const SPAN_MAX_MS = 40 * 365 * DAY;

export function xOf({ from, to }: View, width: number, ms: number): number {
  return (ms - from) / (to - from) * width;
}

export function timeAt({ from, to }: View, width: number, x: number): number {
  return from + x / width * (to - from);
}

/** @param around the moment that stays where it is @param factor below 1 to see less, larger */
export function zoom({ from, to }: View, around: number, factor: number): View {
  const span = Math.min(Math.max((to - from) * factor, SPAN_MIN_MS), SPAN_MAX_MS);
  const start = around - (around - from) / (to - from) * span;
  return { from: start, to: start + span };
}

export function pan({ from, to }: View, ms: number): View {
  return { from: from + ms, to: to + ms };
}

export interface Tick {
  readonly at: number;
  readonly label: string;
  /** Where a larger unit begins. */
  readonly isMajor: boolean;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

const dayOf = (at: Date): string => `${MONTHS[at.getMonth()]} ${at.getDate()}`;
const minuteOf = (at: Date): string => `${two(at.getHours())}:${two(at.getMinutes())}`;
const isMidnight = (at: Date): boolean =>
  at.getHours() === 0 && at.getMinutes() === 0 && at.getSeconds() === 0;

/** Steps of less than a day, which all divide it. */
const CLOCK_STEPS = [
  ...[100, 250, 500],
  ...[1, 2, 5, 10, 15, 30].map((count) => count * SECOND),
  ...[1, 2, 5, 10, 15, 30].map((count) => count * MINUTE),
  ...[1, 2, 3, 6, 12].map((count) => count * HOUR),
];
const DAY_STEPS = [1, 2, 7, 14];
const MONTH_STEPS = [1, 2, 3, 6, 12, 24, 60, 120];

/**
 * Ticks by the local clock, at most one in `apart` pixels.
 *
 * @returns the times in order, some of them outside of the view
 */
export function ticks(view: View, width: number, apart: number): Tick[] {
  const atLeast = (view.to - view.from) / Math.max(width / apart, 1);
  const step = CLOCK_STEPS.find((ms) => ms >= atLeast);
  if (step !== undefined) return clockTicks(view, step);
  const days = DAY_STEPS.find((count) => count * DAY >= atLeast);
  if (days !== undefined) return dayTicks(view, days);
  const months = MONTH_STEPS.find((count) => count * 30 * DAY >= atLeast) ?? 120;
  return monthTicks(view, months);
}

function clockTicks({ from, to }: View, step: number): Tick[] {
  const found: Tick[] = [];
  const begin = new Date(from);
  begin.setHours(0, 0, 0, 0);
  // Days may have 23 or 25 hours: each is counted from its own midnight.
  for (let day = begin; day.getTime() <= to; day = nextDay(day)) {
    const end = nextDay(day).getTime();
    const first = day.getTime() + Math.max(0, Math.floor((from - day.getTime()) / step)) * step;
    for (let ms = first; ms < end && ms <= to + step; ms += step) {
      const at = new Date(ms);
      const midnight = isMidnight(at) && at.getMilliseconds() === 0;
      const label = midnight
        ? dayOf(at)
        : step >= MINUTE
        ? minuteOf(at)
        : step >= SECOND
        ? `${minuteOf(at)}:${two(at.getSeconds())}`
        : `${two(at.getSeconds())}.${String(at.getMilliseconds()).padStart(3, "0")}`;
      found.push({ at: ms, label, isMajor: midnight });
    }
  }
  return found;
}

function nextDay(day: Date): Date {
  return new Date(day.getFullYear(), day.getMonth(), day.getDate() + 1);
}

function dayTicks({ from, to }: View, days: number): Tick[] {
  const found: Tick[] = [];
  const begin = new Date(from);
  for (let month = new Date(begin.getFullYear(), begin.getMonth(), 1); month.getTime() <= to;) {
    const next = new Date(month.getFullYear(), month.getMonth() + 1, 1);
    for (let day = 1;; day += days) {
      const at = new Date(month.getFullYear(), month.getMonth(), day);
      // The last tick of a month keeps its distance from the next month's first.
      if (day > 1 && next.getTime() - at.getTime() < days * DAY * 0.6) break;
      if (at.getTime() >= next.getTime()) break;
      found.push({ at: at.getTime(), label: dayOf(at), isMajor: day === 1 });
    }
    month = next;
  }
  return found;
}

function monthTicks({ from, to }: View, months: number): Tick[] {
  const found: Tick[] = [];
  const begin = new Date(from);
  const first = Math.floor((begin.getFullYear() * 12 + begin.getMonth()) / months) * months;
  for (let month = first;; month += months) {
    const at = new Date(0, 0, 1);
    at.setFullYear(Math.floor(month / 12), month % 12, 1);
    if (at.getTime() > to) return found;
    const isYear = at.getMonth() === 0;
    found.push({
      at: at.getTime(),
      label: isYear ? String(at.getFullYear()) : MONTHS[at.getMonth()]!,
      isMajor: isYear,
    });
  }
}
