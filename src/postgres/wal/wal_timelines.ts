/**
 * The timelines that PostgreSQL's WAL of one branch runs through, and the files that tell
 * PostgreSQL about them: src/backend/access/transam/timeline.c.
 *
 * The WAL begins on timeline 1. Each next one begins where the one before is left, so the places
 * where they begin say everything.
 */
import { ZenithError } from "../../common/errors.ts";
import { formatLsn, type Lsn, lsnFromHalves, lsnHigh, lsnLow, parseLsn } from "../../common/lsn.ts";
import { segmentStart } from "./page_header.ts";

/** Where the timelines 2, 3, … begin: never falling. */
export type WalTimelines = readonly Lsn[];

/** The timelines of WAL that has never left the first. */
export const FIRST_TIMELINE: WalTimelines = [];

const COUNT_BYTES = 4;
const LSN_BYTES = 8;

/** Returns the newest timeline. */
export function newestTli(timelines: WalTimelines): number {
  return timelines.length + 1;
}

/** Returns where timeline `tli` begins; 0 for the first. */
export function beginOf(timelines: WalTimelines, tli: number): Lsn {
  return tli === 1 ? 0 as Lsn : timelines[tli - 2]!;
}

/** Returns where timeline `tli` is left for the next one; null for the newest. */
export function leftAt(timelines: WalTimelines, tli: number): Lsn | null {
  return timelines[tli - 1] ?? null;
}

/** Returns the timelines as they were before `lsn`, which a record before it may have ended at. */
export function timelinesBefore(timelines: WalTimelines, lsn: Lsn): WalTimelines {
  const count = timelines.findLastIndex((begin) => begin < lsn) + 1;
  return count === timelines.length ? timelines : timelines.slice(0, count);
}

/** Returns the timeline of the byte at `lsn`. */
export function tliAt(timelines: WalTimelines, lsn: Lsn): number {
  let tli = 1;
  while (tli <= timelines.length && timelines[tli - 1]! <= lsn) tli++;
  return tli;
}

/**
 * Returns under which timelines PostgreSQL looks for the segment that begins at `start`: those that
 * begin in it, or else the one that it is all of. A walsender of a timeline that is left in a
 * segment reads the segment of the next one, and logical decoding that of the last
 * (WalSndSegmentOpen, XLogReadDetermineTimeline). The last one is the segment's own.
 */
export function tlisOfSegment(timelines: WalTimelines, start: Lsn, segmentSize: number): number[] {
  const found = timelines.flatMap((begin, i) => segmentStart(begin, segmentSize) === start ? [i + 2] : []);
  return found.length > 0 ? found : [tliAt(timelines, start)];
}

/** Returns the name of the file with the history of timeline `tli` (TLHistoryFileName). */
export function historyFileName(tli: number): string {
  return `${tli.toString(16).toUpperCase().padStart(8, "0")}.history`;
}

/** Returns the file with a timeline's history; null when there is no such file. */
export function historyOf(
  timelines: WalTimelines,
  tli: number,
): { readonly name: string; readonly content: Uint8Array } | null {
  if (tli < 2 || tli > newestTli(timelines)) return null;
  return { name: historyFileName(tli), content: historyFile(timelines, tli) };
}

/** Returns the content of that file: the timelines before, and where each was left. */
export function historyFile(timelines: WalTimelines, tli: number): Uint8Array {
  const lines = timelines.slice(0, tli - 1).map((begin, i) => `${i + 1}\t${formatLsn(begin)}\t${REASON}\n`);
  return new TextEncoder().encode(lines.join(""));
}

/** Yields the files with the histories of timeline `from` and of all later ones. */
export function* historyFiles(
  timelines: WalTimelines,
  from: number,
): Generator<{ readonly name: string; readonly content: Uint8Array }> {
  const newest = historyFile(timelines, newestTli(timelines));
  let end = 0;
  for (let tli = 2; tli <= newestTli(timelines); tli++) {
    // Each file is the beginning of the next one.
    end = newest.indexOf(NEWLINE, end) + 1;
    if (tli >= from) yield { name: historyFileName(tli), content: newest.subarray(0, end) };
  }
}

/**
 * Reads what {@link historyFile} has made.
 *
 * @throws {ZenithError} `corrupt_data`, naming `path`
 */
export function parseHistoryFile(text: string, path: string): WalTimelines {
  return text.split("\n").slice(0, -1).map((line, i) => {
    const [, tli, lsn] = /^(\d+)\t([0-9A-F]+\/[0-9A-F]+)\t/.exec(line) ?? [];
    if (Number(tli) !== i + 1) {
      throw new ZenithError("corrupt_data", `${path}: "${line}" does not tell where timeline ${i + 1} ends`);
    }
    return parseLsn(lsn!);
  });
}

const NEWLINE = "\n".charCodeAt(0);
const REASON = "what was written after this may be lost";

/** Returns how long {@link encodeTimelines} makes a list of `count` timelines after the first. */
export function encodedTimelinesBytes(count: number): number {
  return COUNT_BYTES + LSN_BYTES * count;
}

/** Returns the number of timelines after the first (u32), then where each begins (u64 each). */
export function encodeTimelines(timelines: WalTimelines): Uint8Array {
  const bytes = new Uint8Array(encodedTimelinesBytes(timelines.length));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, timelines.length, true);
  timelines.forEach((begin, i) => {
    view.setUint32(COUNT_BYTES + LSN_BYTES * i, lsnLow(begin), true);
    view.setUint32(COUNT_BYTES + LSN_BYTES * i + 4, lsnHigh(begin), true);
  });
  return bytes;
}

/**
 * Reads what {@link encodeTimelines} has made.
 *
 * @throws {ZenithError} `corrupt_data`
 */
export function decodeTimelines(bytes: Uint8Array): WalTimelines {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const count = bytes.length < COUNT_BYTES ? -1 : view.getUint32(0, true);
  if (bytes.length !== COUNT_BYTES + LSN_BYTES * count) {
    throw new ZenithError("corrupt_data", `${bytes.length} bytes are no list of ${count} WAL timelines`);
  }
  const timelines: Lsn[] = [];
  for (let at = COUNT_BYTES; at < bytes.length; at += LSN_BYTES) {
    const begin = lsnFromHalves(view.getUint32(at + 4, true), view.getUint32(at, true));
    if (begin < (timelines.at(-1) ?? 1)) {
      throw new ZenithError(
        "corrupt_data",
        `a WAL timeline begins at ${formatLsn(begin)}, before its parent`,
      );
    }
    timelines.push(begin);
  }
  return timelines;
}
