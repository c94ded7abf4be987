import { BLCKSZ } from "../../postgres/page_layout.ts";
import type { Inode, RemoteFile } from "./inode.ts";
import type { InodeTable } from "./inode_table.ts";

/**
 * What a session reads before it can do anything, as traced: tables and indexes of the shared catalogs and of one database's, by OID.
 * That is their file's name too, unless somebody has rewritten them; this is only a hint.
 */
const SHARED_CATALOGS = [1260, 1262, 2671, 2672, 2676, 2677, 2965];
const DATABASE_CATALOGS = [
  1247,
  1249,
  1259,
  2601,
  2603,
  2610,
  2615,
  2616,
  2655,
  2658,
  2659,
  2662,
  2663,
  2679,
  2684,
  2685,
  2687,
  2703,
];
/** `PostgresDbOid` (pg_database.dat): the database `postgres`, which the supervisor itself connects to. */
const DATABASE = 5;

/** Of each: nobody reads all of a catalog that has grown. */
const BLOCKS_MAX = 64;

export interface FirstRead {
  readonly inode: number;
  readonly remote: RemoteFile;
  /** From the file's start. */
  readonly blocks: number;
}

/** What Postgres is going to ask for at once. To have it on its way already saves a round trip for each of them. */
export function firstReads(inodes: InodeTable): FirstRead[] {
  const reads: FirstRead[] = [];
  const add = (directory: Inode | undefined, oids: readonly number[]) => {
    for (const oid of oids) {
      const inode = directory === undefined ? undefined : inodes.child(directory, String(oid));
      const blocks = Math.min(BLOCKS_MAX, (inode?.remoteEnd ?? 0) / BLCKSZ);
      if (inode?.remote && blocks > 0) reads.push({ inode: inode.id, remote: inode.remote, blocks });
    }
  };
  add(inodes.child(inodes.root, "global"), SHARED_CATALOGS);
  const base = inodes.child(inodes.root, "base");
  add(base === undefined ? undefined : inodes.child(base, String(DATABASE)), DATABASE_CATALOGS);
  return reads;
}
