/**
 * Redo of the rmgr XLOG, whose blocks are full-page images. Replay: xlog_redo in
 * src/backend/access/transam/xlog.c.
 */
import type { WalRecord } from "../wal/record.ts";
import { RedoError } from "./page/errors.ts";
import { unexpectedBlock } from "./page/record_data.ts";

const XLOG_FPI_FOR_HINT = 0xa0;
const XLOG_FPI = 0xb0;
const XLOG_OPMASK = 0xf0;

/**
 * Called for a block without an applicable image: XLOG_FPI always has one, XLOG_FPI_FOR_HINT has
 * none where full_page_writes is off and changes nothing then.
 * @throws {RedoError} for any other record
 */
export function redoXlog(rec: WalRecord, blk: number): void {
  const op = rec.xl_info & XLOG_OPMASK;
  if (op === XLOG_FPI) throw new RedoError("the record has no full-page image");
  if (op !== XLOG_FPI_FOR_HINT) throw unexpectedBlock(blk);
}
