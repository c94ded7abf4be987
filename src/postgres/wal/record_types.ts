/**
 * Names of the record types of the oldest supported major: the identify functions in
 * src/backend/access/rmgrdesc.
 */
import { assert } from "../../common/assert.ts";
import type { RecordTypeNames } from "./wal_format.ts";

export const RECORD_TYPE_NAMES: RecordTypeNames = [
  /* XLOG */ [
    "CHECKPOINT_SHUTDOWN",
    "CHECKPOINT_ONLINE",
    "NOOP",
    "NEXTOID",
    "SWITCH",
    "BACKUP_END",
    "PARAMETER_CHANGE",
    "RESTORE_POINT",
    "FPW_CHANGE",
    "END_OF_RECOVERY",
    "FPI_FOR_HINT",
    "FPI",
    "",
    "OVERWRITE_CONTRECORD",
  ],
  /* Transaction */ [
    "COMMIT",
    "PREPARE",
    "ABORT",
    "COMMIT_PREPARED",
    "ABORT_PREPARED",
    "ASSIGNMENT",
    "INVALIDATION",
  ],
  /* Storage */ ["", "CREATE", "TRUNCATE"],
  /* CLOG */ ["ZEROPAGE", "TRUNCATE"],
  /* Database */ ["CREATE", "DROP"],
  /* Tablespace */ ["CREATE", "DROP"],
  /* MultiXact */ ["ZERO_OFF_PAGE", "ZERO_MEM_PAGE", "CREATE_ID", "TRUNCATE_ID"],
  /* RelMap */ ["UPDATE"],
  /* Standby */ ["LOCK", "RUNNING_XACTS", "INVALIDATIONS"],
  /* Heap2 */ [
    "REWRITE",
    "PRUNE",
    "VACUUM",
    "FREEZE_PAGE",
    "VISIBLE",
    "MULTI_INSERT",
    "LOCK_UPDATED",
    "NEW_CID",
    "",
    "",
    "",
    "",
    "",
    "MULTI_INSERT+INIT",
  ],
  /* Heap */ [
    "INSERT",
    "DELETE",
    "UPDATE",
    "TRUNCATE",
    "HOT_UPDATE",
    "HEAP_CONFIRM",
    "LOCK",
    "INPLACE",
    "INSERT+INIT",
    "",
    "UPDATE+INIT",
    "",
    "HOT_UPDATE+INIT",
  ],
  /* Btree */ [
    "INSERT_LEAF",
    "INSERT_UPPER",
    "INSERT_META",
    "SPLIT_L",
    "SPLIT_R",
    "INSERT_POST",
    "DEDUP",
    "DELETE",
    "UNLINK_PAGE",
    "UNLINK_PAGE_META",
    "NEWROOT",
    "MARK_PAGE_HALFDEAD",
    "VACUUM",
    "REUSE_PAGE",
    "META_CLEANUP",
  ],
  /* Hash */ [
    "INIT_META_PAGE",
    "INIT_BITMAP_PAGE",
    "INSERT",
    "ADD_OVFL_PAGE",
    "SPLIT_ALLOCATE_PAGE",
    "SPLIT_PAGE",
    "SPLIT_COMPLETE",
    "MOVE_PAGE_CONTENTS",
    "SQUEEZE_PAGE",
    "DELETE",
    "SPLIT_CLEANUP",
    "UPDATE_META_PAGE",
    "VACUUM_ONE_PAGE",
  ],
  /* Gin */ [
    "",
    "CREATE_PTREE",
    "INSERT",
    "SPLIT",
    "VACUUM_PAGE",
    "DELETE_PAGE",
    "UPDATE_META_PAGE",
    "INSERT_LISTPAGE",
    "DELETE_LISTPAGE",
    "VACUUM_DATA_LEAF_PAGE",
  ],
  /* Gist */ ["PAGE_UPDATE", "DELETE", "PAGE_REUSE", "PAGE_SPLIT", "", "", "PAGE_DELETE", "ASSIGN_LSN"],
  /* Sequence */ ["LOG"],
  /* SPGist */ [
    "",
    "ADD_LEAF",
    "MOVE_LEAFS",
    "ADD_NODE",
    "SPLIT_TUPLE",
    "PICKSPLIT",
    "VACUUM_LEAF",
    "VACUUM_ROOT",
    "VACUUM_REDIRECT",
  ],
  /* BRIN */ [
    "CREATE_INDEX",
    "INSERT",
    "UPDATE",
    "SAMEPAGE_UPDATE",
    "REVMAP_EXTEND",
    "DESUMMARIZE",
    "",
    "",
    "",
    "INSERT+INIT",
    "UPDATE+INIT",
  ],
  /* CommitTs */ ["ZEROPAGE", "TRUNCATE"],
  /* ReplicationOrigin */ ["SET", "DROP"],
  /* Generic: one type, whatever the info bits */ [],
  /* LogicalMessage */ ["MESSAGE"],
];

/**
 * A copy of `names` with different names for some types, new ones among them; "" for a type that
 * was removed.
 */
export function renameTypes(
  names: RecordTypeNames,
  renamed: readonly (readonly [rmid: number, info: number, name: string])[],
): RecordTypeNames {
  const copy = names.map((types) => [...types]);
  for (const [rmid, info, name] of renamed) {
    const types = copy[rmid];
    assert(types !== undefined, "the resource manager has types");
    while (types.length <= info >> 4) types.push("");
    types[info >> 4] = name;
  }
  return copy;
}
