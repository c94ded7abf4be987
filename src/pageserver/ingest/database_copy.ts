/**
 * Ingests the record that copies a whole database. CREATE DATABASE … STRATEGY FILE_COPY and ALTER
 * DATABASE … SET TABLESPACE write it (copydir). The copy may be larger than memory, so it is
 * written to layer files piece by piece before the timeline stores anything of the record.
 */
import type { Lsn } from "../../common/lsn.ts";
import {
  AbsentBytes,
  type BulkLayers,
  SIZE_BLOCK,
  type TimelineStore,
  whenPresent,
} from "../../pagestore/mod.ts";
import { BLCKSZ } from "../../postgres/cluster/page_layout.ts";
import type { DbaseCreateFileCopy } from "../../postgres/wal/records/dbase.ts";
import type { CheckpointTracker } from "../content/checkpoint_tracker.ts";
import {
  CHECKPOINT_KEY,
  databaseKey,
  relationKey,
  relmapKey,
  TAG_BYTES,
  TOTAL_BLOCKS_KEY,
  VALUE_BLOCK,
} from "../content/keys.ts";
import type { PageReader } from "../content/page_reader.ts";
import { type CopiedFork, encodeBlocks, NO_FORK, type RelationForks } from "../content/relation_forks.ts";
import type { SingleValues } from "../content/single_values.ts";
import { DATABASE_PRESENT } from "./files.ts";
import type { IngestParts } from "./parts.ts";

const NO_BYTES = new Uint8Array(0);

/** A prepared record. Its data is in files that no reader sees yet. */
export interface PreparedRecord {
  /**
   * Stores the whole record, atomically and durably.
   *
   * @throws {ZenithError} `disk_full`, `io`: nothing of the record is stored then
   */
  install(): Promise<void>;
}

/**
 * Prepares one record. The timeline ingests no other record meanwhile.
 *
 * @param signal aborted when the timeline closes; the promise then rejects with its reason
 * @throws {ZenithError} `disk_full`, `io`, `corrupt_data`: nothing of the record is stored
 */
export type Preparation = (signal: AbortSignal) => Promise<PreparedRecord>;

/**
 * What preparation needs from the record. It is copied, because the record's WAL buffer may be
 * reused.
 */
export interface CopyRecord {
  readonly copy: DbaseCreateFileCopy;
  readonly lsn: Lsn;
  readonly endLsn: Lsn;
  readonly xid: number;
}

export class DatabaseCopies {
  readonly #store: TimelineStore;
  readonly #forks: RelationForks;
  readonly #values: SingleValues;
  readonly #reader: PageReader;
  readonly #checkpoint: CheckpointTracker;

  constructor(parts: IngestParts) {
    this.#store = parts.store;
    this.#forks = parts.forks;
    this.#values = parts.values;
    this.#reader = parts.reader;
    this.#checkpoint = parts.checkpoint;
  }

  /**
   * Reads what the record copies and writes it to files.
   *
   * @throws {ZenithError} as {@link Preparation}
   */
  async prepare(record: CopyRecord, signal: AbortSignal): Promise<PreparedRecord> {
    const bulk = await this.#store.startBulk(record.endLsn, record.lsn);
    try {
      signal.throwIfAborted();
      const { copy } = record;
      const { src_tablespace_id, src_db_id, tablespace_id, db_id } = copy;
      const copies = await whenPresent(
        () => this.#forks.planCopy(src_tablespace_id, src_db_id, tablespace_id, db_id),
        signal,
      );
      for (const copied of copies) await this.#copyFork(copied, bulk, signal);
      this.#checkpoint.noteXid(record.xid);
      const map = await whenPresent(
        () => this.#values.get(relmapKey(src_tablespace_id, src_db_id), this.#store.lastLsn),
        signal,
      );
      this.#putValues(copy, map ?? NO_BYTES, copies, bulk);
      await bulk.finish();
      return { install: () => this.#install(copies, bulk) };
    } catch (error) {
      bulk.abort();
      throw error;
    }
  }

  async #copyFork({ from, to, blocks }: CopiedFork, bulk: BulkLayers, signal: AbortSignal): Promise<void> {
    const key = relationKey(to.spc, to.db, to.rel, to.fork);
    const page = new Uint8Array(BLCKSZ);
    const { lastLsn } = this.#store;
    for (let block = 0; block < blocks; block++) {
      try {
        this.#reader.readPage(from!, block, lastLsn, page, 0, false);
      } catch (error) {
        if (!(error instanceof AbsentBytes)) throw error;
        await error.arrive(signal);
        block--;
        continue;
      }
      bulk.put(key, block, page, TAG_BYTES);
      await bulk.pause(signal);
    }
    // Old blocks of the fork beyond the copy become empty, as in RelationForks.truncate.
    for (let block = Math.max(0, blocks); block < to.blocks; block++) {
      bulk.put(key, block, NO_BYTES, TAG_BYTES);
      await bulk.pause(signal);
    }
    bulk.put(key, SIZE_BLOCK, blocks === NO_FORK ? NO_BYTES : encodeBlocks(blocks), TAG_BYTES);
    await bulk.pause(signal);
  }

  /** Stores the single values in the order of their kinds. They sort after relations. */
  #putValues(
    { tablespace_id, db_id }: DbaseCreateFileCopy,
    relmap: Uint8Array,
    copies: readonly CopiedFork[],
    bulk: BulkLayers,
  ): void {
    bulk.put(relmapKey(tablespace_id, db_id), VALUE_BLOCK, relmap, TAG_BYTES);
    bulk.put(databaseKey(tablespace_id, db_id), VALUE_BLOCK, DATABASE_PRESENT, TAG_BYTES);
    bulk.put(CHECKPOINT_KEY, VALUE_BLOCK, this.#checkpoint.encode(), TAG_BYTES);
    const total = this.#forks.encodeTotalAfter(copies);
    if (total !== null) bulk.put(TOTAL_BLOCKS_KEY, VALUE_BLOCK, total, TAG_BYTES);
  }

  async #install(copies: readonly CopiedFork[], bulk: BulkLayers): Promise<void> {
    await this.#store.install(bulk);
    this.#forks.adopt(copies);
    this.#checkpoint.noteSaved();
  }
}
