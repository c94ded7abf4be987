/**
 * PostgreSQL 17: one record prunes and freezes; page numbers of SLRUs have 64 bits; checkpoints say
 * where they begin.
 */
import { redoSqueezePage17, XLOG_HASH_SQUEEZE_PAGE } from "../redo/hash/hash.ts";
import {
  redoPruneFreeze,
  XLOG_HEAP2_PRUNE_ON_ACCESS,
  XLOG_HEAP2_PRUNE_VACUUM_CLEANUP,
  XLOG_HEAP2_PRUNE_VACUUM_SCAN,
} from "../redo/heap/prune_freeze.ts";
import { replaceRedo } from "../redo/redo_table.ts";
import { renameTypes } from "../wal/record_types.ts";
import { XLOG_CHECKPOINT_REDO } from "../wal/records/xlog.ts";
import { RM_HASH_ID, RM_HEAP2_ID, RM_XLOG_ID } from "../wal/rmgr.ts";
import type { PgVersion } from "./pg_version.ts";
import { V16 } from "./v16.ts";

export const V17: PgVersion = {
  ...V16,
  major: 17,
  walPageMagic: 0xd116,
  controlVersion: 1700,
  catalogVersion: 202406281,
  slruPageNumberBytes: 8,
  twophaseNameDigits: 16,
  recordTypeNames: renameTypes(V16.recordTypeNames, [
    [RM_XLOG_ID, XLOG_CHECKPOINT_REDO, "CHECKPOINT_REDO"],
    [RM_HEAP2_ID, XLOG_HEAP2_PRUNE_ON_ACCESS, "PRUNE_ON_ACCESS"],
    [RM_HEAP2_ID, XLOG_HEAP2_PRUNE_VACUUM_SCAN, "PRUNE_VACUUM_SCAN"],
    [RM_HEAP2_ID, XLOG_HEAP2_PRUNE_VACUUM_CLEANUP, "PRUNE_VACUUM_CLEANUP"],
  ]),
  redo: replaceRedo(V16.redo, [
    [RM_HEAP2_ID, XLOG_HEAP2_PRUNE_ON_ACCESS, redoPruneFreeze],
    [RM_HEAP2_ID, XLOG_HEAP2_PRUNE_VACUUM_SCAN, redoPruneFreeze],
    [RM_HEAP2_ID, XLOG_HEAP2_PRUNE_VACUUM_CLEANUP, redoPruneFreeze],
    [RM_HASH_ID, XLOG_HASH_SQUEEZE_PAGE, redoSqueezePage17],
  ]),
};
