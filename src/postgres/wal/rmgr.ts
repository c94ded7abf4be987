/**
 * Resource managers, which are the same in all majors, and the names of their record types as
 * pg_waldump prints them.
 *
 * Ids: src/include/access/rmgrlist.h ; names: the identify functions in
 * src/backend/access/rmgrdesc.
 */
import type { WalFormat } from "./wal_format.ts";
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

/** Whether the major has this type of record, or it belongs to an extension's resource manager. */
export function isKnownRecordType(pg: WalFormat, rmid: number, info: number): boolean {
  if (rmid === RM_GENERIC_ID || rmid >= RM_MIN_CUSTOM_ID) return true;
  const name = pg.recordTypeNames[rmid]?.[recordTypeInfo(rmid, info) >> 4];
  return name !== undefined && name !== "";
}

/** Whether PostgreSQL accepts a record of this resource manager (RmgrIdIsValid). */
export function isValidRmgrId(rmid: number): boolean {
  return rmid <= RM_MAX_BUILTIN_ID || rmid >= RM_MIN_CUSTOM_ID;
}

/** `Heap`, `Btree`, …; `custom129` for an extension's. */
export function rmgrName(rmid: number): string {
  return NAMES[rmid] ?? `custom${String(rmid).padStart(3, "0")}`;
}

/**
 * The id of a resource manager by its name, in any case; undefined when no resource manager has
 * that name.
 */
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
 * The name of a record type as pg_waldump prints it: `INSERT+INIT`; `UNKNOWN (30)` when the
 * resource manager has no such type.
 *
 * @param info xl_info; the low four bits don't matter
 */
export function recordTypeName(pg: WalFormat, rmid: number, info: number): string {
  if (rmid === RM_GENERIC_ID) return "Generic";
  const type = recordTypeInfo(rmid, info);
  return pg.recordTypeNames[rmid]?.[type >> 4] || `UNKNOWN (${type.toString(16)})`;
}

/** The bits of xl_info that tell the record types of a resource manager apart. */
export function recordTypeInfo(rmid: number, info: number): number {
  return rmid === RM_XACT_ID ? info & XLOG_XACT_OPMASK : info & XLR_RMGR_INFO_MASK;
}
