/** The histories of PostgreSQL's timelines, and which timeline WAL comes from. */
import { type Lsn, parseLsn } from "../common/lsn.ts";

/** A timeline, and the LSN where its successor leaves it. */
export interface LeftTimeline {
  readonly tli: number;
  readonly lsn: Lsn;
}

/** A timeline that WAL comes from, up to where the next one leaves it. */
export interface TimelineStretch {
  readonly tli: number;
  /** Null for the last one. */
  readonly leftAt: Lsn | null;
}

/** Parses a history file: the timelines before its own, the oldest first. */
export function parseHistory(text: string): LeftTimeline[] {
  return [...text.matchAll(/^\s*(\d+)\s+([0-9A-F]+\/[0-9A-F]+)/gim)]
    .map(([, tli, lsn]) => ({ tli: Number(tli), lsn: parseLsn(lsn) }));
}

/**
 * Returns the way from a timeline to the newest one that comes from it, as recovery takes it.
 *
 * @param histories by timeline
 */
export function wayFrom(
  tli: number,
  histories: ReadonlyMap<number, readonly LeftTimeline[]>,
): TimelineStretch[] {
  const newest = [...histories.keys()].sort((a, b) => b - a)
    .find((other) => histories.get(other)!.some((left) => left.tli === tli));
  if (newest === undefined) return [{ tli, leftAt: null }];
  const left = histories.get(newest)!;
  const stretches = left.slice(left.findIndex((entry) => entry.tli === tli))
    .map((entry): TimelineStretch => ({ tli: entry.tli, leftAt: entry.lsn }));
  return [...stretches, { tli: newest, leftAt: null }];
}

/**
 * Returns the part of the way that may have files of a segment, the newest timeline first: a server
 * that is promoted copies what precedes its own WAL in the segment.
 *
 * @param lsn the segment's first byte
 */
export function stretchesOfSegment(
  way: readonly TimelineStretch[],
  lsn: Lsn,
  segmentSize: number,
): TimelineStretch[] {
  const end = lsn + segmentSize;
  return way.filter(({ leftAt }, i) => {
    const beganAt = way[i - 1]?.leftAt ?? null;
    return (leftAt === null || leftAt > lsn) && (beganAt === null || beganAt < end);
  }).reverse();
}
