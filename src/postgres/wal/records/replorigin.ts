/**
 * Replication origin records, src/include/replication/origin.h. Every parser throws
 * {@link WalError} on a short record.
 */
import { MainData } from "../main_data.ts";
import type { WalRecord } from "../record.ts";

export const XLOG_REPLORIGIN_SET = 0x00;
export const XLOG_REPLORIGIN_DROP = 0x10;

export interface ReploriginSet {
  /** A position in the other system's WAL: any 64-bit value. */
  remote_lsn: bigint;
  node_id: number;
  force: boolean;
}

export function parseReploriginSet(rec: WalRecord): ReploriginSet {
  const data = new MainData(rec);
  const remote_lsn = data.u64();
  const node_id = data.u16();
  return { remote_lsn, node_id, force: data.bool() };
}

/** The origin that a DROP record removes. */
export function parseReploriginDrop(rec: WalRecord): number {
  return new MainData(rec).u16();
}
