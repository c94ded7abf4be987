/**
 * PostgreSQL 15: images compressed with lz4 and zstd, statistics in transaction records, databases
 * copied through the WAL.
 */
import { redoPrune } from "../redo/heap/heap2.ts";
import { XLOG_HEAP2_PRUNE } from "../redo/heap/heap_record.ts";
import { replaceRedo } from "../redo/redo_table.ts";
import {
  BKPIMAGE_APPLY,
  BKPIMAGE_COMPRESS_LZ4,
  BKPIMAGE_COMPRESS_PGLZ,
  BKPIMAGE_COMPRESS_ZSTD,
  BKPIMAGE_HAS_HOLE,
} from "../wal/record.ts";
import { RM_DBASE_ID, RM_HEAP2_ID } from "../wal/rmgr.ts";
import { STATS_ITEM_WITH_OID, XACT_XINFO_HAS_DROPPED_STATS } from "../wal/xact.ts";
import { imageInfoTable } from "../wal/image_info.ts";
import type { PgVersion } from "./pg_version.ts";
import { renameTypes } from "../wal/record_types.ts";
import { V14 } from "./v14.ts";

export const V15: PgVersion = {
  ...V14,
  major: 15,
  walPageMagic: 0xd110,
  catalogVersion: 202209061,
  imageInfo: imageInfoTable([
    [0x01, BKPIMAGE_HAS_HOLE],
    [0x02, BKPIMAGE_APPLY],
    [0x04, BKPIMAGE_COMPRESS_PGLZ],
    [0x08, BKPIMAGE_COMPRESS_LZ4],
    [0x10, BKPIMAGE_COMPRESS_ZSTD],
  ]),
  xinfoBits: V14.xinfoBits | XACT_XINFO_HAS_DROPPED_STATS,
  statsItemBytes: STATS_ITEM_WITH_OID,
  dbaseRecords: ["create_file_copy", "create_wal_log", "drop"],
  recordTypeNames: renameTypes(V14.recordTypeNames, [
    [RM_DBASE_ID, 0x00, "CREATE_FILE_COPY"],
    [RM_DBASE_ID, 0x10, "CREATE_WAL_LOG"],
    [RM_DBASE_ID, 0x20, "DROP"],
  ]),
  redo: replaceRedo(V14.redo, [
    [RM_HEAP2_ID, XLOG_HEAP2_PRUNE, redoPrune],
  ]),
};
