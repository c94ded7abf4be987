/** Keeps the forks of relations and their sizes. */
import { assert } from "../../common/assert.ts";
import { MAIN_FORKNUM } from "../../postgres/cluster/relfile.ts";
import { SIZE_BLOCK, type TimelineStore, ValueChain } from "../../pagestore/mod.ts";
import { KIND_RELATION, relationKey, TAG_BYTES, TOTAL_BLOCKS_KEY, VALUE_BLOCK } from "./keys.ts";

/** The number of blocks of a fork that does not exist. */
export const NO_FORK = -1;

/** One fork of one relation, as ingest sees it: at the end of the timeline. */
export interface RelationFork {
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
  readonly fork: number;
  /** The fork's number in the page store. */
  readonly slot: number;
  /**
   * The number of blocks at the end of the timeline, {@link NO_FORK} if the fork does not exist
   * there.
   */
  blocks: number;
  /** The LSN of the last record that has dropped the fork; 0 when there was none. */
  droppedLsn: number;
}

function cacheSlot(db: number, rel: number, fork: number): number {
  return (rel + db * 7 + fork * 61) & (CACHE_SLOTS - 1);
}

/** The init fork of unlogged relations. */
const LAST_FORKNUM = 3;

/** A fork that becomes a copy of another one. */
export interface CopiedFork {
  /** Null when the fork is removed. */
  readonly from: RelationFork | null;
  readonly to: RelationFork;
  /** The fork's new length. {@link NO_FORK} when it is removed. */
  readonly blocks: number;
}

/** Returns by how much the total changes. */
function addedBlocks(copies: readonly CopiedFork[]): number {
  let added = 0;
  for (const { to, blocks } of copies) added += Math.max(0, blocks) - Math.max(0, to.blocks);
  return added;
}

/** Returns a size in its stored form. */
export function encodeBlocks(blocks: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, blocks, true);
  return bytes;
}

/** An LSN after every record. */
const AFTER_ALL = Number.MAX_SAFE_INTEGER;

/**
 * The number of slots in the direct-mapped cache in front of the map. WAL touches few forks at a
 * time.
 */
const CACHE_SLOTS = 256;

const NO_BYTES = new Uint8Array(0);

/** The length of a stored total of blocks: u64. */
const TOTAL_BYTES = 8;

/**
 * Relation forks and their sizes. Stock Postgres does not log sizes. They follow from the records,
 * as in recovery: a block touched beyond the end extends the fork, and truncation and drop shorten
 * it.
 *
 * Their total is one object of the page store, with a version for each record that changes it. So
 * it is right at every LSN, in branches, and after a crash, as pages are. Adding the sizes up
 * instead would read nearly every block of a small database's layers. Timelines that are older than
 * totals have none until somebody asks for it. From then on it is kept.
 */
export class RelationForks {
  readonly #store: TimelineStore;
  readonly #cache: (RelationFork | undefined)[] = new Array(CACHE_SLOTS).fill(undefined);
  /** Forks by relfile, in whichever database. */
  readonly #byRel = new Map<number, RelationFork[]>();
  /** Forks that were dropped, in ascending order of the LSN. */
  readonly #dropped: { readonly fork: RelationFork; readonly lsn: number }[] = [];
  readonly #chain = new ValueChain();
  /** The total of all forks at the end of the timeline. Null when it is not stored. */
  #totalBlocks: number | null;
  /** Whether the total differs from the stored one. */
  #totalChanged = false;
  /** What the record under way has changed: forks, and how long they were. */
  readonly #changes: { readonly fork: RelationFork; readonly blocks: number }[] = [];
  readonly #totalBytes = new Uint8Array(TOTAL_BYTES);
  readonly #sizeBytes = new Uint8Array(4);
  readonly #sizeView = new DataView(this.#sizeBytes.buffer);

  /** Continues at the end of what is stored. @throws {ZenithError} `corrupt_data`, `io` */
  constructor(store: TimelineStore) {
    this.#store = store;
    const isEmpty = store.ancestorLsn === null && store.lastLsn === store.startLsn;
    this.#totalBlocks = isEmpty ? 0 : this.#storedTotal();
  }

  /** Returns the fork, whether or not it exists. Hot: called per block reference of the WAL. */
  get(spc: number, db: number, rel: number, fork: number): RelationFork {
    const at = cacheSlot(db, rel, fork);
    const hit = this.#cache[at];
    if (hit !== undefined && hit.rel === rel && hit.db === db && hit.fork === fork && hit.spc === spc) {
      return hit;
    }
    const found = this.#lookup(spc, db, rel, fork);
    this.#cache[at] = found;
    return found;
  }

  #lookup(spc: number, db: number, rel: number, fork: number): RelationFork {
    let candidates = this.#byRel.get(rel);
    if (candidates === undefined) {
      candidates = [];
      this.#byRel.set(rel, candidates);
    }
    for (const c of candidates) {
      if (c.fork === fork && c.db === db && c.spc === spc) return c;
    }
    const slot = this.#store.slot(relationKey(spc, db, rel, fork));
    const entry: RelationFork = {
      spc,
      db,
      rel,
      fork,
      slot,
      blocks: this.blocksAt(slot, this.#store.lastLsn),
      droppedLsn: 0,
    };
    candidates.push(entry);
    return entry;
  }

  /**
   * Returns the number of blocks at `lsn` of the fork with this slot, {@link NO_FORK} if it does
   * not exist there.
   */
  blocksAt(slot: number, lsn: number): number {
    const chain = this.#chain;
    chain.clear();
    this.#store.collect(slot, SIZE_BLOCK, lsn, chain);
    if (chain.count === 0 || chain.len[0] === 0) return NO_FORK;
    const bytes = chain.bytes[0];
    const off = chain.off[0];
    assert(chain.len[0] === 4, "a relation size is four bytes");
    return (bytes[off] | (bytes[off + 1] << 8) | (bytes[off + 2] << 16) | (bytes[off + 3] << 24)) >>> 0;
  }

  /** Makes the fork at least `blocks` long from `lsn` on. */
  extend(fork: RelationFork, blocks: number, lsn: number): void {
    if (blocks > fork.blocks) this.#setBlocks(fork, blocks, lsn);
  }

  /** Creates an empty fork if it does not exist. */
  create(fork: RelationFork, lsn: number): void {
    if (fork.blocks === NO_FORK) this.#setBlocks(fork, 0, lsn);
  }

  /**
   * Truncates the fork to `blocks`. Each block after that gets an empty version: Postgres may
   * extend the fork again without logging the pages in between, and those must read as zeros, not
   * as their old content.
   */
  truncate(fork: RelationFork, blocks: number, lsn: number): void {
    if (fork.blocks <= blocks) return;
    for (let block = blocks; block < fork.blocks; block++) {
      this.#store.put(fork.slot, block, lsn, NO_BYTES, 0, 0, TAG_BYTES, true);
    }
    this.#setBlocks(fork, blocks, lsn);
  }

  /**
   * Removes the fork. Its number may be used again later, so its blocks are emptied as in
   * {@link truncate}.
   */
  drop(fork: RelationFork, lsn: number): void {
    if (fork.blocks === NO_FORK) return;
    this.truncate(fork, 0, lsn);
    this.#store.putValue(fork.slot, SIZE_BLOCK, lsn, NO_BYTES, TAG_BYTES, true);
    this.#changes.push({ fork, blocks: fork.blocks });
    fork.blocks = NO_FORK;
    fork.droppedLsn = lsn;
  }

  /**
   * Iterates over the forks that exist in a database's directory after the last record, main forks
   * first per relation. This includes forks made by records that are not readable yet, because
   * records become readable many at a time.
   */
  *inDatabase(spc: number, db: number): Iterable<RelationFork> {
    for (const key of this.#store.objects({ kind: KIND_RELATION, a: spc, b: db }, AFTER_ALL)) {
      const fork = this.get(key.a, key.b, key.c, key.d);
      if (fork.blocks !== NO_FORK) yield fork;
    }
  }

  /**
   * Plans the replacement of a database's directory by a copy of another one. Returns each fork
   * that either of them has, in key order. Changes nothing: {@link adopt} does.
   */
  planCopy(fromSpc: number, fromDb: number, toSpc: number, toDb: number): CopiedFork[] {
    const copies: CopiedFork[] = [];
    for (const from of this.inDatabase(fromSpc, fromDb)) {
      const to = this.get(toSpc, toDb, from.rel, from.fork);
      copies.push({ from, to, blocks: from.blocks });
    }
    const copied = new Set(copies.map(({ to }) => to));
    for (const to of this.inDatabase(toSpc, toDb)) {
      if (!copied.has(to)) copies.push({ from: null, to, blocks: NO_FORK });
    }
    return copies.sort((x, y) => x.to.rel - y.to.rel || x.to.fork - y.to.fork);
  }

  /** Returns the total to store when `copies` are adopted. Null when no total is kept. */
  encodeTotalAfter(copies: readonly CopiedFork[]): Uint8Array | null {
    if (this.#totalBlocks === null) return null;
    const total = new Uint8Array(TOTAL_BYTES);
    new DataView(total.buffer).setBigUint64(0, BigInt(this.#totalBlocks + addedBlocks(copies)), true);
    return total;
  }

  /** Takes over the copies, which have been stored with their sizes and the total. */
  adopt(copies: readonly CopiedFork[]): void {
    if (this.#totalBlocks !== null) this.#totalBlocks += addedBlocks(copies);
    for (const { to, blocks } of copies) to.blocks = blocks;
  }

  /** Drops all forks of a relation. */
  dropRelation(spc: number, db: number, rel: number, lsn: number): void {
    this.#forgetDropped();
    for (let fork = MAIN_FORKNUM; fork <= LAST_FORKNUM; fork++) {
      const dropped = this.get(spc, db, rel, fork);
      this.drop(dropped, lsn);
      this.#dropped.push({ fork: dropped, lsn });
    }
  }

  /** How many forks are in memory. */
  get trackedForks(): number {
    let count = 0;
    for (const forks of this.#byRel.values()) count += forks.length;
    return count;
  }

  /**
   * Releases forks that stay dropped, since a timeline drops relations all its life. They are kept
   * until the store has advanced past the drop, because it would report the earlier size until
   * then.
   */
  #forgetDropped(): void {
    const { lastLsn } = this.#store;
    const dropped = this.#dropped;
    let done = 0;
    for (; done < dropped.length && dropped[done].lsn <= lastLsn; done++) {
      const { fork } = dropped[done];
      // It may have been made and dropped again since.
      if (fork.blocks === NO_FORK && fork.droppedLsn <= lastLsn) this.#forget(fork);
    }
    if (done > 0) dropped.splice(0, done);
  }

  #forget(fork: RelationFork): void {
    const at = cacheSlot(fork.db, fork.rel, fork.fork);
    if (this.#cache[at] === fork) this.#cache[at] = undefined;
    const rest = this.#byRel.get(fork.rel)?.filter((other) => other !== fork) ?? [];
    if (rest.length > 0) this.#byRel.set(fork.rel, rest);
    else this.#byRel.delete(fork.rel);
  }

  /**
   * Returns the number of blocks of all relation forks at the end of the timeline. This is their
   * size in PostgreSQL's data directory, except for the free space map, which is not kept.
   *
   * @throws {ZenithError} `corrupt_data`, `io`
   */
  totalBlocks(): number {
    if (this.#totalBlocks === null) {
      this.#totalBlocks = this.countBlocks();
      this.#totalChanged = true;
    }
    return this.#totalBlocks;
  }

  /**
   * Returns what {@link totalBlocks} must be: the sum of all sizes at the end of the timeline.
   *
   * @throws as {@link totalBlocks}
   */
  countBlocks(): number {
    let total = 0;
    for (const key of this.#store.objects({ kind: KIND_RELATION })) {
      total += Math.max(0, this.blocksAt(this.#store.slot(key), this.#store.lastLsn));
    }
    return total;
  }

  /** Stores the total if the record that ends at `lsn` has changed it. */
  save(lsn: number): void {
    if (this.#changes.length > 0) this.#changes.length = 0;
    if (!this.#totalChanged || this.#totalBlocks === null) return;
    this.#totalChanged = false;
    new DataView(this.#totalBytes.buffer).setBigUint64(0, BigInt(this.#totalBlocks), true);
    const slot = this.#store.slot(TOTAL_BLOCKS_KEY);
    this.#store.putValue(slot, VALUE_BLOCK, lsn, this.#totalBytes, TAG_BYTES, true);
  }

  /** Takes back what was changed since the last {@link save}, by a record that begins at `end`. */
  takeBack(end: number): void {
    for (const { fork, blocks } of this.#changes.toReversed()) {
      if (this.#totalBlocks !== null) {
        this.#totalBlocks += Math.max(0, blocks) - Math.max(0, fork.blocks);
      }
      fork.blocks = blocks;
    }
    this.#changes.length = 0;
    while (this.#dropped.length > 0 && this.#dropped.at(-1)!.lsn > end) this.#dropped.pop();
  }

  #storedTotal(): number | null {
    const chain = this.#chain;
    this.#store.collect(this.#store.slot(TOTAL_BLOCKS_KEY), VALUE_BLOCK, this.#store.lastLsn, chain);
    if (chain.count === 0) return null;
    assert(chain.len[0] === TOTAL_BYTES, "a total of blocks is eight bytes");
    const bytes = chain.bytes[0];
    const view = new DataView(bytes.buffer, bytes.byteOffset + chain.off[0], TOTAL_BYTES);
    return Number(view.getBigUint64(0, true));
  }

  #setBlocks(fork: RelationFork, blocks: number, lsn: number): void {
    if (this.#totalBlocks !== null) {
      this.#totalBlocks += Math.max(0, blocks) - Math.max(0, fork.blocks);
      this.#totalChanged = true;
    }
    this.#changes.push({ fork, blocks: fork.blocks });
    fork.blocks = blocks;
    this.#sizeView.setUint32(0, blocks, true);
    this.#store.putValue(fork.slot, SIZE_BLOCK, lsn, this.#sizeBytes, TAG_BYTES, true);
  }
}
