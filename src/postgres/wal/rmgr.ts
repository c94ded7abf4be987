/**
 * Resource managers and their record types, by the names that pg_waldump prints.
 *
 * Ids: src/include/access/rmgrlist.h (PostgreSQL 15); names: the identify functions in src/backend/access/rmgrdesc.
 */
import { XLR_RMGR_INFO_MASK } from "./record.ts";

export const RM_XLOG_ID = 0;
export const RM_XACT_ID = 1;
export const RM_SMGR_ID = 2;
export const RM_CLOG_ID = 3;
export const RM_DBASE_ID = 4;
export const RM_TBLSPC_ID = 5;
export const RM_MULTIXACT_ID = 6;
export const RM_RELMAP_ID = 7;
export const RM_STANDBY_ID = 8;
export const RM_HEAP2_ID = 9;
export const RM_HEAP_ID = 10;
export const RM_BTREE_ID = 11;
export const RM_HASH_ID = 12;
export const RM_GIN_ID = 13;
export const RM_GIST_ID = 14;
export const RM_SEQ_ID = 15;
export const RM_SPGIST_ID = 16;
export const RM_BRIN_ID = 17;
export const RM_COMMIT_TS_ID = 18;
export const RM_REPLORIGIN_ID = 19;
export const RM_GENERIC_ID = 20;
export const RM_LOGICALMSG_ID = 21;

export const RM_MAX_BUILTIN_ID = RM_LOGICALMSG_ID;
/** Extensions register their resource managers from here to 255. */
export const RM_MIN_CUSTOM_ID = 128;

/** XLOG_XACT_OPMASK, src/include/access/xact.h: the bit above it says that xinfo follows. */
export const XLOG_XACT_OPMASK = 0x70;

const NAMES = [
  "XLOG",
  "Transaction",
  "Storage",
  "CLOG",
  "Database",
  "Tablespace",
  "MultiXact",
  "RelMap",
  "Standby",
  "Heap2",
  "Heap",
  "Btree",
  "Hash",
  "Gin",
  "Gist",
  "Sequence",
  "SPGist",
  "BRIN",
  "CommitTs",
  "ReplicationOrigin",
  "Generic",
  "LogicalMessage",
] as const;

/** Record type names by resource manager, at the index `xl_info >> 4`; "" where there is no such type. */
const TYPE_NAMES: readonly (readonly string[])[] = [
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
  /* Database */ ["CREATE_FILE_COPY", "CREATE_WAL_LOG", "DROP"],
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

/** Whether PostgreSQL accepts a record of this resource manager (RmgrIdIsValid). */
export function isValidRmgrId(rmid: number): boolean {
  return rmid <= RM_MAX_BUILTIN_ID || rmid >= RM_MIN_CUSTOM_ID;
}

/** `Heap`, `Btree`, …; `custom129` for an extension's. */
export function rmgrName(rmid: number): string {
  return NAMES[rmid] ?? `custom${String(rmid).padStart(3, "0")}`;
}

/** The id of a resource manager by its name, in any case; undefined when there is none of that name. */
export function rmgrIdByName(name: string): number | undefined {
  const wanted = name.toLowerCase();
  const id = NAMES.findIndex((candidate) => candidate.toLowerCase() === wanted);
  if (id >= 0) return id;
  const custom = /^custom(\d{3})$/.exec(wanted);
  if (custom === null) return undefined;
  const rmid = Number(custom[1]);
  return rmid >= RM_MIN_CUSTOM_ID && rmid <= 255 ? rmid : undefined;
}

/**
 * The name of a record type as pg_waldump prints it: `INSERT+INIT`; `UNKNOWN (30)` when the resource manager has no
 * such type.
 *
 * @param info xl_info; the low four bits don't matter
 */
export function recordTypeName(rmid: number, info: number): string {
  if (rmid === RM_GENERIC_ID) return "Generic";
  const type = recordTypeInfo(rmid, info);
  return TYPE_NAMES[rmid]?.[type >> 4] || `UNKNOWN (${type.toString(16)})`;
}

/** The bits of xl_info that tell the record types of a resource manager apart. */
export function recordTypeInfo(rmid: number, info: number): number {
  return rmid === RM_XACT_ID ? info & XLOG_XACT_OPMASK : info & XLR_RMGR_INFO_MASK;
}
