/** The blocks that Postgres reads first. */
import { BLCKSZ } from "../../../postgres/cluster/page_layout.ts";
import type { Inode, RemoteFile } from "./inode.ts";
import type { InodeTable } from "./inode_table.ts";

/**
 * Tables and indexes that a session reads before it can do anything, as found by tracing: those of
 * the shared catalogs and those of one database, by OID. A file is named by this OID too, unless it
 * has been rewritten. That does no harm, because this is only a hint.
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
/**
 * `PostgresDbOid` (pg_database.dat): the database `postgres`, which the supervisor itself connects
 * to.
 */
const DATABASE = 5;

/** The most blocks of each file. Nobody reads all of a catalog that has grown. */
const BLOCKS_MAX = 64;

/** Blocks that are fetched before anybody asks for them. */
export interface ExpectedRead {
  readonly inode: number;
  readonly remote: RemoteFile;
  /** The first block, counted from the start of the file. */
  readonly block: number;
  readonly blocks: number;
}

/** Returns what Postgres is about to read. Fetching it in advance saves a round trip per block. */
export function firstReads(inodes: InodeTable): ExpectedRead[] {
  const reads: ExpectedRead[] = [];
  const add = (directory: Inode | undefined, oids: readonly number[]) => {
    for (const oid of oids) {
      const inode = directory === undefined ? undefined : inodes.child(directory, String(oid));
      const blocks = Math.min(BLOCKS_MAX, (inode?.remoteEnd ?? 0) / BLCKSZ);
      if (inode?.remote && blocks > 0) {
        reads.push({ inode: inode.id, remote: inode.remote, block: 0, blocks });
      }
    }
  };
  add(inodes.at("global"), SHARED_CATALOGS);
  add(inodes.at(`base/${DATABASE}`), DATABASE_CATALOGS);
  return reads;
}
