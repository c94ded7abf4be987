/**
 * Relations as files: the names that PostgreSQL gives them, and back.
 *
 * Source: src/common/relpath.c, src/include/common/relpath.h, src/backend/storage/file/reinit.c.
 */
import { assert } from "../../common/assert.ts";
import { type ClusterFormat, tablespaceVersionDirectory } from "./cluster_format.ts";
import type { RelFileNode } from "./rel_file_node.ts";

export type { RelFileNode };

// Relation forks, src/include/common/relpath.h.
export const MAIN_FORKNUM = 0;
export const FSM_FORKNUM = 1;
export const VISIBILITYMAP_FORKNUM = 2;
export const INIT_FORKNUM = 3;

// src/include/catalog/pg_tablespace.dat
export const DEFAULTTABLESPACE_OID = 1663;
export const GLOBALTABLESPACE_OID = 1664;

/** RELSEG_SIZE: blocks per file, 1 GiB. */
export const RELSEG_SIZE = 131072;

const FORK_NAMES = ["main", "fsm", "vm", "init"] as const;
const FORK_SUFFIXES = ["", "_fsm", "_vm", "_init"] as const;

/** `main`, `fsm`, `vm` or `init`. */
export function forkName(forkNum: number): string {
  const name = FORK_NAMES[forkNum];
  assert(name !== undefined, "a fork number is 0 to 3");
  return name;
}

/** The number of the fork of that name; undefined when there is none. */
function forkNumberByName(name: string): number | undefined {
  const forkNum = (FORK_NAMES as readonly string[]).indexOf(name);
  return forkNum < 0 ? undefined : forkNum;
}

/**
 * The directory of a database's relations in a tablespace, relative to the data directory:
 * `global`, `base/5`, `pg_tblspc/16385/PG_15_202209061/5` (GetDatabasePath).
 */
export function databasePath(pg: ClusterFormat, spcNode: number, dbNode: number): string {
  if (spcNode === GLOBALTABLESPACE_OID) return "global";
  if (spcNode === DEFAULTTABLESPACE_OID) return `base/${dbNode}`;
  return `pg_tblspc/${spcNode}/${tablespaceVersionDirectory(pg)}/${dbNode}`;
}

/** The file name of one 1 GiB segment of one fork: `16384`, `16384_vm`, `16384_fsm.1`. */
export function relationFileName(relNode: number, forkNum: number, segno = 0): string {
  const suffix = FORK_SUFFIXES[forkNum];
  assert(suffix !== undefined, "a fork number is 0 to 3");
  return segno === 0 ? `${relNode}${suffix}` : `${relNode}${suffix}.${segno}`;
}

/** The path of one segment of one fork, relative to the data directory: `base/5/16384_vm`. */
export function relationPath(pg: ClusterFormat, rel: RelFileNode, forkNum: number, segno = 0): string {
  return `${databasePath(pg, rel.spcNode, rel.dbNode)}/${relationFileName(rel.relNode, forkNum, segno)}`;
}

export interface RelationFileName {
  relNode: number;
  forkNum: number;
  /** The number of the 1 GiB segment, from 0. */
  segno: number;
  /** Belongs to a temporary relation of one session: not WAL-logged, gone at the next start. */
  temporary: boolean;
}

const RELATION_FILE = /^(?:t([0-9]{1,10})_)?([0-9]{1,10})(?:_(fsm|vm|init))?(?:\.([1-9][0-9]{0,5}))?$/;
const OID_MAX = 0xffff_ffff;

/** Splits the name of a file in a database's directory; undefined when it isn't a relation's. */
export function parseRelationFileName(name: string): RelationFileName | undefined {
  const match = RELATION_FILE.exec(name);
  if (match === null) return undefined;
  const relNode = Number(match[2]);
  // Relation 0 does not exist, and PostgreSQL itself never writes a name with a leading zero.
  if (relNode === 0 || relNode > OID_MAX || match[2].startsWith("0")) return undefined;
  return {
    relNode,
    forkNum: match[3] === undefined ? MAIN_FORKNUM : forkNumberByName(match[3])!,
    segno: match[4] === undefined ? 0 : Number(match[4]),
    temporary: match[1] !== undefined,
  };
}

export interface RelationPath {
  rel: RelFileNode;
  forkNum: number;
  segno: number;
  temporary: boolean;
}

const DEFAULT_DATABASE = /^base\/([1-9][0-9]{0,9})\/([^/]+)$/;
const GLOBAL = /^global\/([^/]+)$/;
const TABLESPACE_DATABASE = /^pg_tblspc\/([1-9][0-9]{0,9})\/([^/]+)\/([1-9][0-9]{0,9})\/([^/]+)$/;

/** Splits a path relative to the data directory; undefined when it isn't a relation's file. */
export function parseRelationPath(pg: ClusterFormat, path: string): RelationPath | undefined {
  let spcNode = GLOBALTABLESPACE_OID;
  let dbNode = 0;
  let name: string | undefined;
  let match = DEFAULT_DATABASE.exec(path);
  if (match !== null) {
    spcNode = DEFAULTTABLESPACE_OID;
    dbNode = Number(match[1]);
    name = match[2];
  } else if ((match = GLOBAL.exec(path)) !== null) {
    name = match[1];
  } else if ((match = TABLESPACE_DATABASE.exec(path)) !== null) {
    if (match[2] !== tablespaceVersionDirectory(pg)) return undefined;
    spcNode = Number(match[1]);
    dbNode = Number(match[3]);
    name = match[4];
  }
  if (name === undefined) return undefined;
  const file = parseRelationFileName(name);
  if (file === undefined) return undefined;
  return {
    rel: { spcNode, dbNode, relNode: file.relNode },
    forkNum: file.forkNum,
    segno: file.segno,
    temporary: file.temporary,
  };
}
