/** Fills the mount with its first files. */
import type { PgVersion } from "../../../postgres/versions/pg_version.ts";
import { readdirSync, renameSync, statSync } from "node:fs";
import { join } from "node:path";
import { type SegmentRange, segmentsOf, WAL_DIRECTORY } from "../../postgres/slot_wal.ts";
import { BLCKSZ } from "../../../postgres/cluster/page_layout.ts";
import { databasePath, relationFileName, RELSEG_SIZE } from "../../../postgres/cluster/relfile.ts";
import type { RelationManifest } from "../../../protocol/relation_manifest.ts";
import { type Inode, S_IFDIR, S_IFREG } from "./inode.ts";
import type { InodeTable } from "./inode_table.ts";

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/**
 * The modes that PostgreSQL uses: PG_DIR_MODE_OWNER and PG_FILE_MODE_OWNER (common/file_perm.h).
 */
const DIRECTORY_MODE = S_IFDIR | 0o700;
const FILE_MODE = S_IFREG | 0o600;
/** Nobody writes to a finished segment. */
const SEGMENT_MODE = S_IFREG | 0o400;

/**
 * Gives the tree its first files: those of `seed`, which are complete, relation files whose
 * blocks are at the page server, and WAL segments that are there.
 *
 * @param seed a directory on the overlay's disk; its files are moved out of it
 * @param backingPath where the overlay stores an inode's data
 */
export function populate(
  pg: PgVersion,
  inodes: InodeTable,
  seed: string,
  manifest: RelationManifest,
  wal: SegmentRange | null,
  owner: Owner,
  backingPath: (id: number) => string,
): void {
  adopt(inodes, inodes.root, seed, owner, backingPath);
  for (const { spc, db, rel, fork, sourceFork, blocks } of manifest.entries) {
    const directory = ensureDirectory(inodes, databasePath(pg, spc, db), owner);
    for (let segment = 0; segment === 0 || segment * RELSEG_SIZE < blocks; segment++) {
      const firstBlock = segment * RELSEG_SIZE;
      inodes.create(directory, relationFileName(rel, fork, segment), {
        mode: FILE_MODE,
        ...owner,
        grows: true,
        size: Math.min(RELSEG_SIZE, blocks - firstBlock) * BLCKSZ,
        remote: { spc, db, rel, fork: sourceFork, firstBlock },
      });
    }
  }
  if (wal === null) return;
  const directory = ensureDirectory(inodes, WAL_DIRECTORY, owner);
  for (const { name, start } of segmentsOf(wal)) {
    const remote = { walStart: start };
    inodes.create(directory, name, { mode: SEGMENT_MODE, ...owner, size: wal.segmentSize, remote });
  }
}

function adopt(
  inodes: InodeTable,
  into: Inode,
  directory: string,
  owner: Owner,
  backingPath: (id: number) => string,
): void {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) {
      const made = inodes.create(into, entry.name, { mode: DIRECTORY_MODE, ...owner });
      adopt(inodes, made, path, owner, backingPath);
    } else {
      const size = statSync(path).size;
      const made = inodes.create(into, entry.name, { mode: FILE_MODE, ...owner, size });
      renameSync(path, backingPath(made.id));
    }
  }
}

function ensureDirectory(inodes: InodeTable, path: string, owner: Owner): Inode {
  let at = inodes.root;
  for (const part of path.split("/")) {
    at = inodes.child(at, part) ?? inodes.create(at, part, { mode: DIRECTORY_MODE, ...owner });
  }
  return at;
}
