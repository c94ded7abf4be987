/** PostgreSQL 18: data checksums by default; any 64-bit number names a statistics entry. */
import { XLOG_BTREE_VACUUM } from "../redo/btree/btree.ts";
import { redoVacuum18 } from "../redo/btree/btree_delete.ts";
import { replaceRedo } from "../redo/redo_table.ts";
import { RM_BTREE_ID } from "../wal/rmgr.ts";
import { STATS_ITEM_WITH_OBJID } from "../wal/xact.ts";
import type { PgVersion } from "./pg_version.ts";
import { V17 } from "./v17.ts";

export const V18: PgVersion = {
  ...V17,
  major: 18,
  walPageMagic: 0xd118,
  controlVersion: 1800,
  catalogVersion: 202506291,
  controlCrcOffset: 292,
  dataChecksumsByDefault: true,
  statsItemBytes: STATS_ITEM_WITH_OBJID,
  redo: replaceRedo(V17.redo, [
    [RM_BTREE_ID, XLOG_BTREE_VACUUM, redoVacuum18],
  ]),
};
