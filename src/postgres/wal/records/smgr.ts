/**
 * Relation file records, src/include/catalog/storage_xlog.h. Every parser throws {@link WalError}
 * on a bad record.
 */
import type { RelFileNode } from "../../cluster/rel_file_node.ts";
import { WalError } from "../error.ts";
import { MainData } from "../main_data.ts";
import { INIT_FORKNUM } from "../../cluster/relfile.ts";
import { type WalRecord } from "../record.ts";

export const XLOG_SMGR_CREATE = 0x10;
export const XLOG_SMGR_TRUNCATE = 0x20;

// xl_smgr_truncate.flags: which forks.
export const SMGR_TRUNCATE_HEAP = 0x0001;
export const SMGR_TRUNCATE_VM = 0x0002;
export const SMGR_TRUNCATE_FSM = 0x0004;

/** A fork's file is created, empty. */
export interface SmgrCreate {
  rnode: RelFileNode;
  forkNum: number;
}

export function parseSmgrCreate(rec: WalRecord): SmgrCreate {
  const data = new MainData(rec);
  const rnode = data.relFileNode();
  const forkNum = data.u32();
  if (forkNum > INIT_FORKNUM) throw new WalError(rec.lsn, `creation of fork ${forkNum}`);
  return { rnode, forkNum };
}

/**
 * The main fork is cut to `blkno` blocks; visibility map and free space map to what describes these
 * blocks.
 */
export interface SmgrTruncate {
  blkno: number;
  rnode: RelFileNode;
  /** SMGR_TRUNCATE_*. */
  flags: number;
}

export function parseSmgrTruncate(rec: WalRecord): SmgrTruncate {
  const data = new MainData(rec);
  const blkno = data.u32();
  const rnode = data.relFileNode();
  return { blkno, rnode, flags: data.u32() };
}
