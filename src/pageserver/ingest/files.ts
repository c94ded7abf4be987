import { parseDbase } from "../../postgres/wal/records/dbase.ts";
import type { PgVersion } from "../../postgres/versions/pg_version.ts";
import { parseRelmapUpdate, XLOG_RELMAP_UPDATE } from "../../postgres/wal/records/relmap.ts";
import {
  parseSmgrCreate,
  parseSmgrTruncate,
  SMGR_TRUNCATE_HEAP,
  SMGR_TRUNCATE_VM,
  type SmgrTruncate,
  XLOG_SMGR_CREATE,
  XLOG_SMGR_TRUNCATE,
} from "../../postgres/wal/records/smgr.ts";
import {
  parseTblspcCreate,
  parseTblspcDrop,
  XLOG_TBLSPC_CREATE,
  XLOG_TBLSPC_DROP,
} from "../../postgres/wal/records/tblspc.ts";
import {
  HEAPBLOCKS_PER_MAP_PAGE,
  visibilityMapBlock,
} from "../../postgres/redo/heap/visibility_map_changes.ts";
import { visibilityMapBlocksAfterTruncate } from "../../postgres/redo/heap/visibility_map.ts";
import { BLCKSZ } from "../../postgres/cluster/page_layout.ts";
import { FSM_FORKNUM, MAIN_FORKNUM, VISIBILITYMAP_FORKNUM } from "../../postgres/cluster/relfile.ts";
import { type WalRecord, XLR_RMGR_INFO_MASK } from "../../postgres/wal/record.ts";
import { RM_DBASE_ID, RM_RELMAP_ID, RM_SMGR_ID, RM_TBLSPC_ID } from "../../postgres/wal/rmgr.ts";
import type { TimelineStore } from "../../pagestore/mod.ts";
import type { IngestParts } from "./parts.ts";
import { databaseKey, relmapKey, tablespaceKey, TAG_BYTES, TAG_RECORD } from "../content/keys.ts";
import type { PageReader } from "../content/page_reader.ts";
import { NO_FORK, type RelationForks } from "../content/relation_forks.ts";
import type { SingleValues } from "../content/single_values.ts";

/** A database's directory exists. */
const PRESENT = Uint8Array.of(1);

/** Takes in what creates, copies, truncates and removes files: relations, databases, tablespaces, relation maps. */
export class FileIngest {
  readonly #pg: PgVersion;
  readonly #store: TimelineStore;
  readonly #forks: RelationForks;
  readonly #values: SingleValues;
  readonly #reader: PageReader;

  constructor(parts: IngestParts) {
    this.#pg = parts.pg;
    this.#store = parts.store;
    this.#forks = parts.forks;
    this.#values = parts.values;
    this.#reader = parts.reader;
  }

  /** `rec` is of one of the resource managers Storage, Database, Tablespace, RelMap. */
  apply(rec: WalRecord): void {
    const info = rec.xl_info & XLR_RMGR_INFO_MASK;
    switch (rec.xl_rmid) {
      case RM_SMGR_ID:
        if (info === XLOG_SMGR_CREATE) {
          const { rnode: { spcNode, dbNode, relNode }, forkNum } = parseSmgrCreate(rec);
          if (forkNum !== FSM_FORKNUM) {
            this.#forks.create(this.#forks.get(spcNode, dbNode, relNode, forkNum), rec.endLsn);
          }
        } else if (info === XLOG_SMGR_TRUNCATE) {
          this.#truncate(parseSmgrTruncate(rec), rec);
        }
        break;
      case RM_DBASE_ID:
        this.#applyDbase(rec);
        break;
      case RM_TBLSPC_ID:
        if (info === XLOG_TBLSPC_CREATE) {
          const { ts_id, ts_path } = parseTblspcCreate(rec);
          this.#values.put(tablespaceKey(ts_id), rec.endLsn, new TextEncoder().encode(ts_path));
        } else if (info === XLOG_TBLSPC_DROP) {
          this.#values.remove(tablespaceKey(parseTblspcDrop(rec).ts_id), rec.endLsn);
        }
        break;
      case RM_RELMAP_ID:
        if (info === XLOG_RELMAP_UPDATE) {
          const { tsid, dbid, data } = parseRelmapUpdate(rec, this.#pg);
          this.#values.put(relmapKey(tsid, dbid), rec.endLsn, data);
        }
        break;
    }
  }

  #truncate(truncate: SmgrTruncate, rec: WalRecord): void {
    const { rnode: { spcNode, dbNode, relNode }, blkno, flags } = truncate;
    if ((flags & SMGR_TRUNCATE_HEAP) !== 0) {
      this.#forks.truncate(this.#forks.get(spcNode, dbNode, relNode, MAIN_FORKNUM), blkno, rec.endLsn);
    }
    if ((flags & SMGR_TRUNCATE_VM) !== 0) {
      const vm = this.#forks.get(spcNode, dbNode, relNode, VISIBILITYMAP_FORKNUM);
      const remaining = visibilityMapBlocksAfterTruncate(blkno);
      if (blkno % HEAPBLOCKS_PER_MAP_PAGE !== 0 && remaining <= vm.blocks) {
        // The last block that stays loses the entries of the heap blocks that go.
        this.#store.put(
          vm.slot,
          visibilityMapBlock(blkno),
          rec.endLsn,
          rec.bytes,
          rec.off,
          rec.xl_tot_len,
          TAG_RECORD,
          false,
        );
      }
      this.#forks.truncate(vm, remaining, rec.endLsn);
    }
  }

  #applyDbase(rec: WalRecord): void {
    const record = parseDbase(rec, this.#pg);
    const { db_id } = record;
    switch (record.kind) {
      case "create_wal_log":
        this.#values.put(databaseKey(record.tablespace_id, db_id), rec.endLsn, PRESENT);
        break;
      case "create_file_copy": {
        const { tablespace_id, src_db_id, src_tablespace_id } = record;
        this.#dropDatabase(tablespace_id, db_id, rec.endLsn);
        this.#copyDatabase(src_tablespace_id, src_db_id, tablespace_id, db_id, rec.endLsn);
        break;
      }
      case "drop":
        for (const tablespace of record.tablespace_ids) this.#dropDatabase(tablespace, db_id, rec.endLsn);
        break;
    }
  }

  #dropDatabase(spc: number, db: number, lsn: number): void {
    for (const fork of this.#forks.inDatabase(spc, db)) this.#forks.drop(fork, lsn);
    this.#values.remove(relmapKey(spc, db), lsn);
    this.#values.remove(databaseKey(spc, db), lsn);
  }

  /** copydir: the one record of CREATE DATABASE … STRATEGY FILE_COPY and ALTER DATABASE … SET TABLESPACE. */
  #copyDatabase(fromSpc: number, fromDb: number, toSpc: number, toDb: number, lsn: number): void {
    this.#values.put(databaseKey(toSpc, toDb), lsn, PRESENT);
    const map = this.#values.get(relmapKey(fromSpc, fromDb), lsn);
    if (map !== null) this.#values.put(relmapKey(toSpc, toDb), lsn, map);
    const page = new Uint8Array(BLCKSZ);
    for (const from of this.#forks.inDatabase(fromSpc, fromDb)) {
      const to = this.#forks.get(toSpc, toDb, from.rel, from.fork);
      if (to.blocks === NO_FORK) this.#forks.create(to, lsn);
      for (let block = 0; block < from.blocks; block++) {
        this.#reader.readPage(from, block, lsn, page, 0);
        this.#store.putValue(to.slot, block, lsn, page, TAG_BYTES, true);
      }
      this.#forks.extend(to, from.blocks, lsn);
    }
  }
}
