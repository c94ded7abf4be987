/** Ingests WAL records about files: relations, databases, tablespaces and relation maps. */
import { assert } from "../../common/assert.ts";
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
import { FSM_FORKNUM, MAIN_FORKNUM, VISIBILITYMAP_FORKNUM } from "../../postgres/cluster/relfile.ts";
import { type WalRecord, XLR_RMGR_INFO_MASK } from "../../postgres/wal/record.ts";
import { RM_DBASE_ID, RM_RELMAP_ID, RM_SMGR_ID, RM_TBLSPC_ID } from "../../postgres/wal/rmgr.ts";
import type { TimelineStore } from "../../pagestore/mod.ts";
import type { IngestParts } from "./parts.ts";
import { databaseKey, relmapKey, tablespaceKey, TAG_RECORD } from "../content/keys.ts";
import type { RelationForks } from "../content/relation_forks.ts";
import type { SingleValues } from "../content/single_values.ts";

/** Says that a database's directory exists. */
export const DATABASE_PRESENT = Uint8Array.of(1);

/**
 * Ingests records that create, copy, truncate or remove files: those of relations, databases,
 * tablespaces and relation maps.
 */
export class FileIngest {
  readonly #pg: PgVersion;
  readonly #store: TimelineStore;
  readonly #forks: RelationForks;
  readonly #values: SingleValues;

  constructor(parts: IngestParts) {
    this.#pg = parts.pg;
    this.#store = parts.store;
    this.#forks = parts.forks;
    this.#values = parts.values;
  }

  /** Ingests `rec`, a record of the resource manager Storage, Database, Tablespace or RelMap. */
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
        // The last remaining block loses its entries for the removed heap blocks.
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
        this.#values.put(databaseKey(record.tablespace_id, db_id), rec.endLsn, DATABASE_PRESENT);
        break;
      case "create_file_copy":
        assert(false, "a copy of a database is prepared, then installed");
        break;
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
}
