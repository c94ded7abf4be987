/**
 * PostgreSQL 16: records tell standbys which relations are catalogs; tuples are frozen by plans.
 */
import { redoGistDelete16, XLOG_GIST_DELETE } from "../redo/gist.ts";
import { redoVacuumOnePage16, XLOG_HASH_VACUUM_ONE_PAGE } from "../redo/hash/hash.ts";
import { redoFreezePage16 } from "../redo/heap/freeze_plans.ts";
import { XLOG_HEAP2_FREEZE_PAGE } from "../redo/heap/heap_record.ts";
import { replaceRedo } from "../redo/redo_table.ts";
import { XLOG_SPGIST_VACUUM_REDIRECT } from "../redo/spgist/spgist.ts";
import { redoVacuumRedirect16 } from "../redo/spgist/spgist_vacuum.ts";
import { RM_GIST_ID, RM_HASH_ID, RM_HEAP2_ID, RM_SPGIST_ID } from "../wal/rmgr.ts";
import type { PgVersion } from "./pg_version.ts";
import { V15 } from "./v15.ts";

export const V16: PgVersion = {
  ...V15,
  major: 16,
  walPageMagic: 0xd113,
  catalogVersion: 202307071,
  relmapSize: 524,
  redo: replaceRedo(V15.redo, [
    [RM_HEAP2_ID, XLOG_HEAP2_FREEZE_PAGE, redoFreezePage16],
    [RM_GIST_ID, XLOG_GIST_DELETE, redoGistDelete16],
    [RM_HASH_ID, XLOG_HASH_VACUUM_ONE_PAGE, redoVacuumOnePage16],
    [RM_SPGIST_ID, XLOG_SPGIST_VACUUM_REDIRECT, redoVacuumRedirect16],
  ]),
};
