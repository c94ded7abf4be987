/**
 * A timeline as of one LSN: what a data directory made there contains. Everything that reads a
 * timeline reads through it.
 */
import type { Lsn } from "../../common/lsn.ts";
import { AbsentOnes, type ObjectId, type TimelineStore } from "../../pagestore/mod.ts";
import { KIND_RELATION, relationKey } from "./keys.ts";
import type { BlockSource, PageReader } from "./page_reader.ts";
import { NO_FORK, type RelationForks } from "./relation_forks.ts";
import type { SingleValues } from "./single_values.ts";
import type { SlruPages } from "./slru_pages.ts";

/** The sources from which a view reads. */
export interface TimelineContent {
  readonly store: TimelineStore;
  readonly forks: RelationForks;
  readonly slru: SlruPages;
  readonly values: SingleValues;
  readonly reader: PageReader;
}

/** A fork of a relation, with its size in blocks at the view's LSN. */
export interface ForkAt extends BlockSource {
  /** {@link NO_FORK} when there is no such fork. */
  readonly blocks: number;
}

export class TimelineView {
  readonly lsn: Lsn;
  readonly #content: TimelineContent;

  /**
   * @param lsn one that the timeline has reached and whose history it has not removed; once it has,
   *   reads throw
   */
  constructor(content: TimelineContent, lsn: Lsn) {
    this.#content = content;
    this.lsn = lsn;
  }

  /** Returns a fork of a relation, whether or not it exists. */
  fork(spc: number, db: number, rel: number, fork: number): ForkAt {
    const { store, forks } = this.#content;
    const slot = store.slot(relationKey(spc, db, rel, fork));
    return { spc, db, rel, fork, slot, blocks: forks.blocksAt(slot, this.lsn) };
  }

  /** Whether a relation has this fork. */
  hasFork(spc: number, db: number, rel: number, fork: number): boolean {
    return this.fork(spc, db, rel, fork).blocks !== NO_FORK;
  }

  /** The keys of all forks that may exist, in key order: those of all databases, or of one. */
  forkKeys(database?: { readonly spc: number; readonly db: number }): ObjectId[] {
    const prefix = database === undefined ? {} : { a: database.spc, b: database.db };
    return this.#content.store.objects({ kind: KIND_RELATION, ...prefix });
  }

  /** Every fork in key order: those of all databases, or of one. */
  forks(database?: { readonly spc: number; readonly db: number }): ForkAt[] {
    return this.existingForks(this.forkKeys(database));
  }

  /** Those of the forks that exist. */
  existingForks(keys: readonly ObjectId[]): ForkAt[] {
    const absent = new AbsentOnes();
    const forks = keys.map(({ a, b, c, d }) => absent.try(() => this.fork(a, b, c, d)));
    absent.check();
    return forks.filter((fork) => fork !== undefined && fork.blocks !== NO_FORK) as ForkAt[];
  }

  /** Writes a block to `out[outOff..]`, like {@link PageReader.readPage}. */
  readPage(source: BlockSource, block: number, out: Uint8Array, outOff: number): void {
    this.#content.reader.readPage(source, block, this.lsn, out, outOff);
  }

  /** Returns a copy of a single value, or null when it is absent. */
  value(key: ObjectId): Uint8Array | null {
    return this.#content.values.get(key, this.lsn);
  }

  /** Like {@link value}, with the LSN since which it has that value. */
  newest(key: ObjectId): { readonly value: Uint8Array; readonly lsn: number } | null {
    return this.#content.values.newest(key, this.lsn);
  }

  /** The single values of a kind, in key order. */
  values(kind: number): Iterable<[ObjectId, Uint8Array]> {
    return this.#content.values.present({ kind }, this.lsn);
  }

  /** The segments of an SLRU, with the number of pages in each. */
  slruSegments(slru: number): { segment: number; pages: number }[] {
    return this.#content.slru.segments(slru, this.lsn);
  }

  readSlruPage(slru: number, page: number, out: Uint8Array, outOff: number): void {
    this.#content.slru.read(slru, page, this.lsn, out, outOff);
  }
}
