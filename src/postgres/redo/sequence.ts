/**
 * Redo of sequences: each record holds the whole page. Replay: seq_redo in
 * src/backend/commands/sequence.c.
 */
import type { WalRecord } from "../wal/record.ts";
import { RedoError } from "./page/errors.ts";
import { pageAddItem, pageInit, pageSetLsn } from "./page/page.ts";
import { mainData, unexpectedBlock } from "./page/record_data.ts";
import { BLCKSZ, copy, PAGE, W32 } from "./page/workspace.ts";

const XLOG_SEQ_LOG = 0x00;
/** xl_seq_rec: a RelFileNode, followed by the sequence's tuple. */
const SIZE_OF_SEQ_REC = 12;
/** sequence_magic, the special space; its magic number is SEQ_MAGIC. */
const SIZE_OF_SEQUENCE_MAGIC = 4;
const SEQ_MAGIC = 0x1717;
const SEQUENCE_SPECIAL = BLCKSZ - 8;

/**
 * Applies a Sequence record to the page in the workspace.
 * @throws {RedoError} when the record is malformed
 */
export function redoSequence(rec: WalRecord, blk: number): void {
  if (blk !== 0) throw unexpectedBlock(blk);
  if ((rec.xl_info & 0xf0) !== XLOG_SEQ_LOG) {
    throw new RedoError(`unknown Sequence record type 0x${(rec.xl_info & 0xf0).toString(16)}`);
  }
  const tuple = mainData(rec, SIZE_OF_SEQ_REC) + SIZE_OF_SEQ_REC;
  const size = rec.mainLen - SIZE_OF_SEQ_REC;
  pageInit(PAGE, SIZE_OF_SEQUENCE_MAGIC);
  W32[(PAGE + SEQUENCE_SPECIAL) >> 2] = SEQ_MAGIC;
  copy(pageAddItem(PAGE, size, 1), tuple, size);
  pageSetLsn(PAGE, rec.endLsn);
}
