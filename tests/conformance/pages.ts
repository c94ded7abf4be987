/**
 * The pages of a whole cluster as redo has left them, in memory. A page that no record has changed yet is read from the
 * copy of the data directory that was made before the first record.
 */
import { closeSync, existsSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import type { BlockTarget } from "../../src/postgres/redo/reconstruct.ts";
import { INIT_FORKNUM, VISIBILITYMAP_FORKNUM } from "../../src/postgres/cluster/relfile.ts";

const BLCKSZ = 8192;
/** RELSEG_SIZE: blocks of a file before the next one, `.1`, begins. */
const BLOCKS_PER_FILE = 131072;
const GLOBALTABLESPACE_OID = 1664;
const DEFAULTTABLESPACE_OID = 1663;
const FORK_SUFFIXES = ["", "_fsm", "_vm", "_init"];

/** One fork of one relation. */
export class Fork implements Omit<BlockTarget, "blkno"> {
  readonly spcNode: number;
  readonly dbNode: number;
  readonly relNode: number;
  readonly fork: number;
  /** Pages by block number; undefined where no record has changed the page. */
  readonly pages: (Uint8Array | undefined)[] = [];
  /** By block: the resource manager of the last record that changed it and knows how to mask it. */
  readonly rmids: (number | undefined)[] = [];
  /** A page came as an image without what lies between pd_lower and pd_upper. */
  hasHoles = false;
  /** Whose files hold the pages as they were before the first record: this database, or the one it is a copy of. */
  baseDb: number;
  /** Blocks from here on were cut off once, so the files from before do not tell what they hold. */
  baseBlocks = Infinity;

  constructor(spcNode: number, dbNode: number, relNode: number, fork: number, baseDb: number) {
    this.spcNode = spcNode;
    this.dbNode = dbNode;
    this.relNode = relNode;
    this.fork = fork;
    this.baseDb = baseDb;
  }
}

export class ClusterPages {
  readonly #baseDir: string;
  readonly #forks = new Map<string, Fork>();
  /** Databases that were copied file by file, and from which. */
  readonly #copiedFrom = new Map<number, number>();
  readonly #zeros = new Uint8Array(BLCKSZ);
  #last: Fork | undefined;

  constructor(baseDir: string) {
    this.#baseDir = baseDir;
  }

  forks(): Iterable<Fork> {
    return this.#forks.values();
  }

  fork(spcNode: number, dbNode: number, relNode: number, fork: number): Fork {
    const last = this.#last;
    if (
      last !== undefined && last.relNode === relNode && last.fork === fork && last.dbNode === dbNode &&
      last.spcNode === spcNode
    ) return last;
    const key = `${spcNode}/${dbNode}/${relNode}/${fork}`;
    let found = this.#forks.get(key);
    if (found === undefined) {
      found = new Fork(spcNode, dbNode, relNode, fork, this.#copiedFrom.get(dbNode) ?? dbNode);
      this.#forks.set(key, found);
    }
    this.#last = found;
    return found;
  }

  /** The page as it is now; zeros where there never was one. Not to be written to. */
  page(fork: Fork, blkno: number): Uint8Array {
    const known = fork.pages[blkno];
    if (known !== undefined) return known;
    const base = blkno < fork.baseBlocks ? this.#readBase(fork, blkno) : undefined;
    if (base === undefined) return this.#zeros;
    fork.pages[blkno] = base;
    return base;
  }

  setPage(fork: Fork, blkno: number, page: Uint8Array): void {
    const known = fork.pages[blkno];
    if (known === undefined) fork.pages[blkno] = page.slice();
    else known.set(page);
  }

  /** XLOG_SMGR_TRUNCATE: blocks from `blocks` on are gone. */
  truncate(fork: Fork, blocks: number): void {
    if (fork.pages.length > blocks) fork.pages.length = blocks;
    fork.baseBlocks = Math.min(fork.baseBlocks, blocks);
  }

  /** A relation is dropped. */
  drop(spcNode: number, dbNode: number, relNode: number): void {
    for (let fork = 0; fork <= INIT_FORKNUM; fork++) {
      this.#forks.delete(`${spcNode}/${dbNode}/${relNode}/${fork}`);
    }
    this.#last = undefined;
  }

  /** CREATE DATABASE ... STRATEGY = FILE_COPY: one record for all its pages. */
  copyDatabase(fromDb: number, toDb: number, toSpc: number): void {
    this.#copiedFrom.set(toDb, this.#copiedFrom.get(fromDb) ?? fromDb);
    for (const fork of [...this.#forks.values()]) {
      if (fork.dbNode !== fromDb) continue;
      const copy = this.fork(toSpc, toDb, fork.relNode, fork.fork);
      copy.baseBlocks = fork.baseBlocks;
      fork.rmids.forEach((rmid, blkno) => copy.rmids[blkno] = rmid);
      copy.hasHoles = fork.hasHoles;
      fork.pages.forEach((page, blkno) => {
        copy.pages[blkno] = page?.slice();
      });
    }
  }

  #readBase(fork: Fork, blkno: number): Uint8Array | undefined {
    return readBlock(relationFile(this.#baseDir, fork.spcNode, fork.baseDb, fork.relNode, fork.fork), blkno);
  }
}

/** The first file of a relation's fork in a data directory; "" for one in a tablespace of its own. */
export function relationFile(dir: string, spc: number, db: number, rel: number, fork: number): string {
  const name = rel + FORK_SUFFIXES[fork];
  if (spc === GLOBALTABLESPACE_OID) return join(dir, "global", name);
  return spc === DEFAULTTABLESPACE_OID ? join(dir, "base", String(db), name) : "";
}

/** Reads one block of a fork whose first file is `file`; undefined when there is no such block. */
export function readBlock(file: string, blkno: number): Uint8Array | undefined {
  const segment = Math.floor(blkno / BLOCKS_PER_FILE);
  const path = segment === 0 ? file : `${file}.${segment}`;
  if (file === "" || !existsSync(path)) return undefined;
  const fd = openSync(path, "r");
  try {
    const page = new Uint8Array(BLCKSZ);
    const read = readSync(fd, page, 0, BLCKSZ, (blkno % BLOCKS_PER_FILE) * BLCKSZ);
    return read === BLCKSZ ? page : undefined;
  } finally {
    closeSync(fd);
  }
}

/** Whether pages of this fork are a visibility map's. */
export function isVisibilityMap(fork: Fork): boolean {
  return fork.fork === VISIBILITYMAP_FORKNUM;
}
