/**
 * Keeps WAL that a start cuts off although it contains whole records. A crash leaves the last
 * record cut short, with nothing behind it. If records follow, either something before them is
 * damaged, or the power failed before it was durable. Either way the bytes are kept aside, because
 * nobody knows who relies on them.
 */
import { join } from "node:path";
import { type Disk, TEMPORARY_SUFFIX } from "../common/disk.ts";
import { ioError } from "../common/errors.ts";
import { nextTurn } from "../common/event_loop.ts";
import { formatLsn, type Lsn, parseLsn } from "../common/lsn.ts";
import { WalDecoder } from "../postgres/wal/decoder.ts";
import { WalError } from "../postgres/wal/error.ts";
import { segmentStart, WAL_TLI, walFileName, XLOG_BLCKSZ } from "../postgres/wal/page_header.ts";
import { WalRecord } from "../postgres/wal/record.ts";
import type { WalFormat } from "../postgres/wal/wal_format.ts";
import { findEndOfWritten } from "./check_wal.ts";
import type { WalStore } from "./wal_store.ts";

/**
 * This many pages after the cut are tried one by one; after that, only the first page of each
 * segment.
 */
const PAGES_TRIED = 64;

/** After this much, other work gets its turn. */
const PAUSE_EVERY_BYTES = 8 << 20;

/** WAL that was cut off at a start, and where it is kept now. */
export interface CutWal {
  readonly from: Lsn;
  readonly to: Lsn;
  readonly directory: string;
}

/**
 * Returns how far the WAL after `end` goes, if it contains a whole record; else null.
 *
 * @param end where the WAL of a store that was just opened is about to be cut
 * @throws {ZenithError} `io`
 */
export async function findCutWal(pg: WalFormat, store: WalStore, end: Lsn): Promise<Lsn | null> {
  const written = await inTurns(findEndOfWritten(store));
  let page = (end - end % XLOG_BLCKSZ + XLOG_BLCKSZ) as Lsn;
  for (let tried = 0; page < written; tried++) {
    if (await inTurns(beginsRecord(pg, store, page, written))) return written;
    page = (tried < PAGES_TRIED
      ? page + XLOG_BLCKSZ
      : segmentStart(page, store.segmentSize) + store.segmentSize) as Lsn;
  }
  return null;
}

/** Returns whether a whole record follows from that page on. */
function* beginsRecord(
  pg: WalFormat,
  store: WalStore,
  page: Lsn,
  written: Lsn,
): Generator<number, boolean> {
  const { segmentSize } = store;
  const passesOver = () => true;
  const options = { pg, segmentSize, startLsn: page, findFirst: true, zerosAreEnd: true, passesOver };
  const decoder = new WalDecoder(options);
  const record = new WalRecord();
  try {
    for (const { lsn, bytes } of store.iterate(page, written)) {
      decoder.feed(bytes, lsn);
      if (decoder.next(record)) return true;
      if (decoder.ended) return false;
      yield bytes.length;
    }
  } catch (error) {
    if (!(error instanceof WalError)) throw error;
  }
  return false;
}

async function inTurns<T>(work: Generator<number, T>): Promise<T> {
  let done = 0;
  for (;;) {
    const step = work.next();
    if (step.done === true) return step.value;
    done += step.value;
    if (done < PAUSE_EVERY_BYTES) continue;
    done = 0;
    await nextTurn();
  }
}

/**
 * Copies the segments from `from` to `to`, durably, into a directory beside them.
 *
 * @throws {ZenithError} `disk_full`, `io`
 */
export async function keepCutWal(disk: Disk, store: WalStore, from: Lsn, to: Lsn): Promise<CutWal> {
  const directory = join(store.dir, nameOf(from, to));
  const temporary = directory + TEMPORARY_SUFFIX;
  try {
    await disk.removeTree(temporary);
    disk.mkdirSync(temporary);
    for (let at = segmentStart(from, store.segmentSize); at < to; at = (at + store.segmentSize) as Lsn) {
      const name = walFileName(WAL_TLI, at, store.segmentSize);
      const bytes = disk.readFileSync(join(store.dir, name));
      const file = disk.openSync(join(temporary, name), "create");
      try {
        file.writeSync(bytes, 0, bytes.length, 0);
        await file.fsync();
      } finally {
        file.closeSync();
      }
    }
    await disk.fsyncDir(temporary);
    if (disk.statSync(directory) === null) disk.renameSync(temporary, directory);
    await disk.fsyncDir(store.dir);
  } catch (error) {
    throw ioError("keep damaged WAL in", directory, error);
  }
  return { from, to, directory };
}

/** Lists the cut-off WAL that is kept in a WAL directory. */
export function cutWalIn(disk: Disk, dir: string): CutWal[] {
  if (disk.statSync(dir) === null) return [];
  return disk.readdirSync(dir).flatMap((name) => {
    const match = NAME.exec(name);
    if (match === null) return [];
    const [, fromHigh, fromLow, toHigh, toLow] = match;
    return [{
      from: parseLsn(`${fromHigh}/${fromLow}`),
      to: parseLsn(`${toHigh}/${toLow}`),
      directory: join(dir, name),
    }];
  });
}

/**
 * Describes cut-off WAL for an operator.
 *
 * @param copies who else may have that WAL
 */
export function describeCutWal(
  { from, to, directory }: CutWal,
  copies: string,
): { what: string; hint: string } {
  return {
    what: `WAL from ${formatLsn(from)} to ${formatLsn(to)} was damaged when it was opened, and cut off`,
    hint: `${copies}. The damaged files are in ${directory}: remove them when nothing is missing`,
  };
}

/** `cut-<from>-<to>`. The LSNs have an underscore instead of the slash. */
const NAME = /^cut-([0-9A-F]{1,8})_([0-9A-F]{1,8})-([0-9A-F]{1,8})_([0-9A-F]{1,8})$/;

function nameOf(from: Lsn, to: Lsn): string {
  return `cut-${formatLsn(from)}-${formatLsn(to)}`.replaceAll("/", "_");
}
