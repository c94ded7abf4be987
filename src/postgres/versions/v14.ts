/**
 * PostgreSQL 14, the oldest supported major. Each later one is derived from the one before by what
 * it changes.
 */
import { redoBrin } from "../redo/brin.ts";
import { redoBtree } from "../redo/btree/btree.ts";
import { redoGeneric } from "../redo/generic.ts";
import { redoGin } from "../redo/gin/gin.ts";
import { redoGist } from "../redo/gist.ts";
import { redoHash } from "../redo/hash/hash.ts";
import { redoHeap } from "../redo/heap/heap.ts";
import { redoHeap2, redoPruneKeepingLines } from "../redo/heap/heap2.ts";
import { XLOG_HEAP2_PRUNE } from "../redo/heap/heap_record.ts";
import { redoTable, replaceRedo } from "../redo/redo_table.ts";
import { redoSequence } from "../redo/sequence.ts";
import { redoSpgist } from "../redo/spgist/spgist.ts";
import { redoXlog } from "../redo/xlog.ts";
import { BKPIMAGE_APPLY, BKPIMAGE_COMPRESS_PGLZ, BKPIMAGE_HAS_HOLE } from "../wal/record.ts";
import {
  RM_BRIN_ID,
  RM_BTREE_ID,
  RM_GENERIC_ID,
  RM_GIN_ID,
  RM_GIST_ID,
  RM_HASH_ID,
  RM_HEAP2_ID,
  RM_HEAP_ID,
  RM_SEQ_ID,
  RM_SPGIST_ID,
  RM_XLOG_ID,
} from "../wal/rmgr.ts";
import {
  XACT_COMPLETION_APPLY_FEEDBACK,
  XACT_COMPLETION_FORCE_SYNC_COMMIT,
  XACT_COMPLETION_UPDATE_RELCACHE_FILE,
  XACT_XINFO_HAS_GID,
} from "../wal/xact.ts";
import { imageInfoTable } from "../wal/image_info.ts";
import type { PgVersion } from "./pg_version.ts";
import { RECORD_TYPE_NAMES } from "../wal/record_types.ts";

export const V14: PgVersion = {
  major: 14,
  walPageMagic: 0xd10d,
  controlVersion: 1300,
  catalogVersion: 202107181,
  controlCrcOffset: 288,
  dataChecksumsByDefault: false,
  relmapSize: 512,
  slruPageNumberBytes: 4,
  twophaseNameDigits: 8,
  // BKPIMAGE_HAS_HOLE, BKPIMAGE_IS_COMPRESSED, BKPIMAGE_APPLY, src/include/access/xlogrecord.h
  imageInfo: imageInfoTable([
    [0x01, BKPIMAGE_HAS_HOLE],
    [0x02, BKPIMAGE_COMPRESS_PGLZ],
    [0x04, BKPIMAGE_APPLY],
  ]),
  // All bits up to XACT_XINFO_HAS_GID, and the ones that tell a standby what to do.
  xinfoBits: (2 * XACT_XINFO_HAS_GID - 1) | XACT_COMPLETION_APPLY_FEEDBACK |
    XACT_COMPLETION_UPDATE_RELCACHE_FILE |
    XACT_COMPLETION_FORCE_SYNC_COMMIT,
  statsItemBytes: 0,
  dbaseRecords: ["create_file_copy", "drop"],
  recordTypeNames: RECORD_TYPE_NAMES,
  redo: replaceRedo(
    redoTable([
      [RM_XLOG_ID, redoXlog],
      [RM_HEAP2_ID, redoHeap2],
      [RM_HEAP_ID, redoHeap],
      [RM_BTREE_ID, redoBtree],
      [RM_HASH_ID, redoHash],
      [RM_GIN_ID, redoGin],
      [RM_GIST_ID, redoGist],
      [RM_SEQ_ID, redoSequence],
      [RM_SPGIST_ID, redoSpgist],
      [RM_BRIN_ID, redoBrin],
      [RM_GENERIC_ID, redoGeneric],
    ]),
    [
      [RM_HEAP2_ID, XLOG_HEAP2_PRUNE, redoPruneKeepingLines],
    ],
  ),
};
