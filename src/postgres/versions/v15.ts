/** PostgreSQL 15: images compressed with lz4 and zstd, statistics in transaction records, databases copied through the WAL. */
import {
  BKPIMAGE_APPLY,
  BKPIMAGE_COMPRESS_LZ4,
  BKPIMAGE_COMPRESS_PGLZ,
  BKPIMAGE_COMPRESS_ZSTD,
  BKPIMAGE_HAS_HOLE,
} from "../wal/record.ts";
import { RM_DBASE_ID } from "../wal/rmgr.ts";
import { STATS_ITEM_WITH_OID, XACT_XINFO_HAS_DROPPED_STATS } from "../wal/xact.ts";
import { imageInfoTable } from "../wal/image_info.ts";
import type { PgVersion } from "./pg_version.ts";
import { replaceTypeNames } from "../wal/record_types.ts";
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
  recordTypeNames: replaceTypeNames(V14.recordTypeNames, [
    [RM_DBASE_ID, ["CREATE_FILE_COPY", "CREATE_WAL_LOG", "DROP"]],
  ]),
};
