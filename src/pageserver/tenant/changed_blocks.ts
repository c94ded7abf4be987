/**
 * Finds the blocks of a database's relations that may differ between two points of a tenant's
 * history.
 */
import { ZenithError } from "../../common/errors.ts";
import { nextTurn } from "../../common/event_loop.ts";
import type { TimelineId } from "../../common/id.ts";
import type { Lsn } from "../../common/lsn.ts";
import {
  forEachKeyBetween,
  type LsnRange,
  type ObjectId,
  SIZE_BLOCK,
  whenPresent,
} from "../../pagestore/mod.ts";
import { parseCheckpoint } from "../../postgres/cluster/checkpoint.ts";
import { BLCKSZ } from "../../postgres/cluster/page_layout.ts";
import {
  CLOG_XACTS_PER_PAGE,
  FIRST_NORMAL_XID,
  SLRU_CLOG,
  SLRU_PAGES_PER_SEGMENT,
  TRANSACTION_STATUS_COMMITTED,
  transactionIdPrecedes,
} from "../../postgres/cluster/slru.ts";
import { hasRowsOf } from "../../postgres/heap_xids.ts";
import { BlockSet } from "../content/block_set.ts";
import { CHECKPOINT_KEY, KIND_RELATION, KIND_SLRU_SEGMENT } from "../content/keys.ts";
import type { TimelineView } from "../content/timeline_view.ts";
import type { Timeline } from "../timeline/timeline.ts";
import type { TenantTimelines } from "./timelines.ts";

const MAIN_FORK = 0;
/** In place of a database's OID: relations that all databases share. */
const SHARED = 0;
/** The most ranges per relation. With more, ranges are joined across the blocks between them. */
const MAX_RANGES = 10_000;
const TWO_POW_32 = 0x1_0000_0000;
/** How many pages are rebuilt before this thread's other work gets its turn. */
const PAGES_PER_TURN = 32;

/** A point of a timeline. The caller holds the timeline. */
export interface Point {
  readonly timeline: Timeline;
  readonly lsn: Lsn;
}

export interface ChangedRelation {
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
  /** How many blocks may differ. */
  readonly pages: number;
  /** The ranges that cover them: the first block of each, and the one after its last. */
  readonly ranges: readonly number[];
}

/**
 * Finds the blocks of main forks whose rows may look different at `one` than at `other`. Those are
 * the blocks that were changed since the two had a common history, and the blocks that were written
 * before by a transaction that has committed since.
 *
 * @param database the database's OID; undefined for all databases
 * @throws {ZenithError} `out_of_range` when a point's history has been removed
 */
export async function changedBlocks(
  timelines: TenantTimelines,
  one: Point,
  other: Point,
  database: number | undefined,
  signal: AbortSignal,
): Promise<ChangedRelation[]> {
  const found = new Relations();
  const xactPages = new Set<number>();
  const isOfTable = ({ kind, b, d }: ObjectId) =>
    kind === KIND_RELATION && d === MAIN_FORK && (database === undefined ? b !== SHARED : b === database);
  const wants = (object: ObjectId) =>
    isOfTable(object) || object.kind === KIND_SLRU_SEGMENT && object.a === SLRU_CLOG;
  const visit = ({ kind, a, b, c }: ObjectId, block: number) => {
    if (block === SIZE_BLOCK) return;
    if (kind === KIND_RELATION) found.of(a, b, c).add(block);
    else xactPages.add(b * SLRU_PAGES_PER_SEGMENT + block);
  };
  const lineages = [lineage(timelines, one), lineage(timelines, other)] as const;
  for (const [timeline, range] of differences(...lineages)) {
    await forEachKeyBetween(timeline.store, range, wants, visit, signal);
  }
  const common = commonPoint(...lineages);
  const before = common.timeline.at(common.lsn);
  const next = await whenPresent(() => nextXid(before), signal);
  const sides = [one, other].map(({ timeline, lsn }) => timeline.at(lsn));
  const late = await whenPresent(() => committedLater(xactPages, before, sides, next), signal);
  if (late.size > 0) await addRowsOf(late, timelines, common, next, isOfTable, found, signal);
  return found.list();
}

/** Blocks by relation. */
class Relations {
  readonly #blocks = new Map<string, { spc: number; db: number; rel: number; blocks: BlockSet }>();

  of(spc: number, db: number, rel: number): BlockSet {
    const key = `${spc}/${db}/${rel}`;
    let entry = this.#blocks.get(key);
    if (entry === undefined) this.#blocks.set(key, entry = { spc, db, rel, blocks: new BlockSet() });
    return entry.blocks;
  }

  entries() {
    return this.#blocks.values();
  }

  list(): ChangedRelation[] {
    return [...this.#blocks.values()]
      .filter(({ blocks }) => blocks.count > 0)
      .map(({ spc, db, rel, blocks }) => ({
        spc,
        db,
        rel,
        pages: blocks.count,
        ranges: blocks.ranges(MAX_RANGES),
      }))
      .sort((x, y) => x.spc - y.spc || x.db - y.db || x.rel - y.rel);
  }
}

/**
 * Returns the timelines that a read at a point falls through, each with the LSN up to which it is
 * read.
 */
function lineage(timelines: TenantTimelines, { timeline, lsn }: Point): Map<TimelineId, Point> {
  const parts = new Map<TimelineId, Point>();
  for (let at = timeline, limit = lsn;; at = timelines.ancestorOf(at)) {
    parts.set(at.timelineId, { timeline: at, lsn: limit });
    if (at.ancestorId === null) return parts;
    limit = Math.min(limit, at.store.ancestorLsn ?? limit) as Lsn;
  }
}

/** Returns the parts of timelines that only one of two reads sees. */
function* differences(
  one: ReadonlyMap<TimelineId, Point>,
  other: ReadonlyMap<TimelineId, Point>,
): Generator<[Timeline, LsnRange]> {
  for (const id of new Set([...one.keys(), ...other.keys()])) {
    const [x, y] = [one.get(id), other.get(id)];
    const { timeline } = (x ?? y)!;
    const after = Math.max(Math.min(x?.lsn ?? 0, y?.lsn ?? 0), timeline.store.startLsn);
    const upTo = Math.max(x?.lsn ?? 0, y?.lsn ?? 0);
    if (upTo > after) yield [timeline, { after, upTo }];
  }
}

/** Returns the point up to which both have the same history. */
function commonPoint(one: ReadonlyMap<TimelineId, Point>, other: ReadonlyMap<TimelineId, Point>): Point {
  for (const [id, { timeline, lsn }] of one) {
    const found = other.get(id);
    if (found !== undefined) return { timeline, lsn: Math.min(lsn, found.lsn) as Lsn };
  }
  throw new ZenithError("invalid_argument", "the two timelines have no common ancestor");
}

/**
 * Returns the checkpoint's next transaction id. It is above every id that was used by then, but
 * need not be the very next one.
 */
function nextXid(view: TimelineView): number {
  const checkpoint = view.value(CHECKPOINT_KEY);
  return checkpoint === null ? 0 : parseCheckpoint(checkpoint, 0).nextXid;
}

/**
 * Returns the transactions that may have run at the common point and have committed on one side
 * since. There, what they did before the common point has become visible. They are not committed in
 * the common point's pg_xact.
 */
function committedLater(
  pages: ReadonlySet<number>,
  before: TimelineView,
  sides: readonly TimelineView[],
  next: number,
): Set<number> {
  const late = new Set<number>();
  const old = new Uint8Array(BLCKSZ);
  const now = new Uint8Array(BLCKSZ);
  for (const page of pages) {
    const first = page * CLOG_XACTS_PER_PAGE;
    if (!transactionIdPrecedes(Math.max(first, FIRST_NORMAL_XID), next % TWO_POW_32)) continue;
    before.readSlruPage(SLRU_CLOG, page, old, 0);
    for (const side of sides) {
      side.readSlruPage(SLRU_CLOG, page, now, 0);
      for (let i = 0; i < CLOG_XACTS_PER_PAGE; i++) {
        if (old[i >> 2] === now[i >> 2]) {
          i |= 3;
          continue;
        }
        const shift = (i & 3) << 1;
        const isLate = (now[i >> 2] >>> shift & 3) === TRANSACTION_STATUS_COMMITTED &&
          (old[i >> 2] >>> shift & 3) !== TRANSACTION_STATUS_COMMITTED;
        if (isLate && transactionIdPrecedes(first + i, next % TWO_POW_32)) late.add(first + i);
      }
    }
  }
  return late;
}

/** Adds the blocks that already held rows of these transactions at the common point. */
async function addRowsOf(
  xids: ReadonlySet<number>,
  timelines: TenantTimelines,
  common: Point,
  next: number,
  wants: (object: ObjectId) => boolean,
  found: Relations,
  signal: AbortSignal,
): Promise<void> {
  let oldest = next;
  for (const xid of xids) oldest = Math.min(oldest, next - ((next % TWO_POW_32 - xid) >>> 0));
  const parts = lineage(timelines, common);
  const after = await whenPresent(() => lastBefore(oldest, parts.values()), signal);
  const candidates = new Relations();
  const visit = ({ a, b, c }: ObjectId, block: number) => {
    if (block !== SIZE_BLOCK && !found.of(a, b, c).has(block)) candidates.of(a, b, c).add(block);
  };
  for (const { timeline, lsn } of parts.values()) {
    const range = { after: Math.max(after, timeline.store.startLsn), upTo: lsn };
    if (range.upTo > range.after) await forEachKeyBetween(timeline.store, range, wants, visit, signal);
  }
  const view = common.timeline.at(common.lsn);
  const page = new Uint8Array(BLCKSZ);
  let pages = 0;
  for (const { spc, db, rel, blocks } of candidates.entries()) {
    const fork = await whenPresent(() => view.fork(spc, db, rel, MAIN_FORK), signal);
    for (const block of blocks.blocks()) {
      if (block >= fork.blocks) break;
      await whenPresent(() => view.readPage(fork, block, page, 0), signal);
      if (hasRowsOf(xids, page)) found.of(spc, db, rel).add(block);
      if (++pages % PAGES_PER_TURN !== 0) continue;
      await nextTurn();
      signal.throwIfAborted();
    }
  }
}

/**
 * Returns the last LSN up to the common point at which `xid` was certainly not in use. 0 when that
 * history has been removed.
 */
function lastBefore(xid: number, parts: Iterable<Point>): number {
  for (const { timeline, lsn } of parts) {
    for (let at: number = lsn; at >= timeline.store.startLsn;) {
      const found = newestCheckpoint(timeline, at as Lsn);
      if (found === null) return 0;
      if (parseCheckpoint(found.value, 0).nextXid <= xid) return at;
      at = found.lsn - 1;
    }
  }
  return 0;
}

function newestCheckpoint(timeline: Timeline, lsn: Lsn): ReturnType<TimelineView["newest"]> {
  try {
    return timeline.at(lsn).newest(CHECKPOINT_KEY);
  } catch (error) {
    if (error instanceof ZenithError && error.kind === "out_of_range") return null;
    throw error;
  }
}
