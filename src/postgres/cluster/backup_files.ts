/**
 * What the files of a data directory, or of a backup of one, hold. Sources:
 * src/backend/backup/basebackup.c, src/backend/access/transam/xlogbackup.c.
 */
import {
  DEFAULTTABLESPACE_OID,
  GLOBALTABLESPACE_OID,
  parseRelationFileName,
  type RelationFileName,
} from "./relfile.ts";
import { parseSlruSegmentFileName, SLRU_DIRECTORIES } from "./slru.ts";

export const BACKUP_LABEL_FILE = "backup_label";
export const BACKUP_MANIFEST_FILE = "backup_manifest";
export const VERSION_FILE = "PG_VERSION";
/** Where replication origins are stored, relative to the data directory. */
export const ORIGINS_FILE = "pg_logical/replorigin_checkpoint";

const RELMAP_FILE = "pg_filenode.map";

/** What a file of a data directory holds. `other`: nothing of the cluster's content. */
export type BackupFile =
  | { readonly kind: "relation"; readonly spc: number; readonly db: number; readonly file: RelationFileName }
  /** A file that says that the database's directory exists. */
  | { readonly kind: "database"; readonly spc: number; readonly db: number }
  | { readonly kind: "relmap"; readonly spc: number; readonly db: number }
  | { readonly kind: "slru"; readonly slru: number; readonly segment: number }
  | { readonly kind: "twophase"; readonly xid: number }
  | { readonly kind: "wal"; readonly name: string }
  | { readonly kind: "version" | "control" | "label" | "tablespaces" | "origins" | "other" };

const DATABASE_FILE = /^base\/([1-9]\d{0,9})\/([^/]+)$/;
const GLOBAL_FILE = /^global\/([^/]+)$/;
const TABLESPACE_FILE = /^pg_tblspc\/([1-9]\d{0,9})\/PG_\d+_\d+\/([1-9]\d{0,9})\/([^/]+)$/;
/** Eight digits of the xid, or sixteen of the full one, of which the low half is the xid. */
const TWOPHASE_FILE = /^pg_twophase\/(?:[0-9A-F]{8})?([0-9A-F]{8})$/;
const WAL_FILE = /^pg_wal\/([0-9A-F]{24})$/;

const SINGLE_FILES: Readonly<Record<string, BackupFile>> = {
  [VERSION_FILE]: { kind: "version" },
  "global/pg_control": { kind: "control" },
  [BACKUP_LABEL_FILE]: { kind: "label" },
  tablespace_map: { kind: "tablespaces" },
  [ORIGINS_FILE]: { kind: "origins" },
};

const OTHER: BackupFile = { kind: "other" };

/** @param path relative to the data directory, with tablespaces below `pg_tblspc` */
export function backupFile(path: string): BackupFile {
  const single = Object.hasOwn(SINGLE_FILES, path) ? SINGLE_FILES[path] : undefined;
  if (single !== undefined) return single;
  const database = DATABASE_FILE.exec(path);
  if (database !== null) return inDatabase(DEFAULTTABLESPACE_OID, Number(database[1]), database[2]);
  const global = GLOBAL_FILE.exec(path);
  if (global !== null) return inDatabase(GLOBALTABLESPACE_OID, 0, global[1]);
  const tablespace = TABLESPACE_FILE.exec(path);
  if (tablespace !== null) return inDatabase(Number(tablespace[1]), Number(tablespace[2]), tablespace[3]);
  const wal = WAL_FILE.exec(path);
  if (wal !== null) return { kind: "wal", name: wal[1] };
  const twophase = TWOPHASE_FILE.exec(path);
  if (twophase !== null) return { kind: "twophase", xid: parseInt(twophase[1], 16) };
  return slruFile(path);
}

function inDatabase(spc: number, db: number, name: string): BackupFile {
  if (name === RELMAP_FILE) return { kind: "relmap", spc, db };
  if (name === VERSION_FILE && db !== 0) return { kind: "database", spc, db };
  const file = parseRelationFileName(name);
  return file === undefined ? OTHER : { kind: "relation", spc, db, file };
}

function slruFile(path: string): BackupFile {
  const slash = path.lastIndexOf("/");
  const slru = (SLRU_DIRECTORIES as readonly string[]).indexOf(path.slice(0, slash));
  const segment = slru < 0 ? undefined : parseSlruSegmentFileName(path.slice(slash + 1));
  return segment === undefined ? OTHER : { kind: "slru", slru, segment };
}
