/**
 * Applies WAL records to pages, one block at a time: of a record that changes four blocks, any one
 * can be rebuilt alone.
 *
 * The record and the page lie in the workspace (workspace.ts). The page is in the state before the
 * record. If the record {@link isInitialising | initialises} it, its earlier content does not
 * matter.
 *
 * The major's table (RedoFormat.redo) says which function applies a record; images are restored as
 * by XLogReadBufferForRedoExtended in src/backend/access/transam/xlogutils.c.
 */
import { formatLsn, type Lsn } from "../../common/lsn.ts";
import { recordTypeIndex, type RedoFormat } from "./redo_table.ts";
import { forkName } from "../cluster/relfile.ts";
import { restoreBlockImage } from "../wal/block_image.ts";
import { WalError } from "../wal/error.ts";
import { parseSmgrTruncate } from "../wal/records/smgr.ts";
import {
  BKPBLOCK_FORK_MASK,
  BKPBLOCK_HAS_IMAGE,
  BKPBLOCK_WILL_INIT,
  BKPIMAGE_APPLY,
  type WalRecord,
} from "../wal/record.ts";
import { recordTypeName, RM_GIST_ID, RM_SMGR_ID, rmgrName } from "../wal/rmgr.ts";
import { RedoError, RedoNotImplementedError } from "./page/errors.ts";
import { redoGistAfterImage } from "./gist.ts";
import { pageIsNew, pageSetLsn } from "./page/page.ts";
import { redoTruncateVisibilityMap, redoVisibilityMap } from "./heap/visibility_map.ts";
import { BLCKSZ, PAGE, W8 } from "./page/workspace.ts";

/**
 * Whether the record has an image of block reference `blk` that redo has to restore, rather than
 * one that is only there for checks.
 */
export function hasApplicableImage(rec: WalRecord, blk: number): boolean {
  return (rec.blockFlags[blk] & BKPBLOCK_HAS_IMAGE) !== 0 && (rec.imageInfo[blk] & BKPIMAGE_APPLY) !== 0;
}

/**
 * Whether the record makes block reference `blk` from nothing, so that no earlier version of it is
 * needed.
 */
export function isInitialising(rec: WalRecord, blk: number): boolean {
  return (rec.blockFlags[blk] & BKPBLOCK_WILL_INIT) !== 0 || hasApplicableImage(rec, blk);
}

/**
 * Applies the record in the workspace to the page in the workspace, which is the record's block
 * reference `blk`.
 *
 * @throws {RedoError} when record and page don't fit together or one is damaged; the page is then
 *   undefined
 * @throws {RedoNotImplementedError} when redo does not know the record's resource manager
 */
export function redoRecordToBlock(rec: WalRecord, blk: number, pg: RedoFormat): void {
  try {
    if (hasApplicableImage(rec, blk)) restoreImage(rec, blk);
    else applyRecord(rec, blk, pg);
  } catch (error) {
    throw withRecord(error, rec, pg, blockName(rec, blk));
  }
}

/**
 * Applies what the record in the workspace clears in block `vmBlock` of the visibility map to the
 * page in the workspace: a heap record the entries of its blocks (visibility_map_changes.ts), a
 * truncation those of the blocks that are gone.
 *
 * @throws {RedoError} when it clears nothing there
 */
export function redoRecordToVisibilityMap(rec: WalRecord, vmBlock: number, pg: RedoFormat): void {
  try {
    if (rec.xl_rmid === RM_SMGR_ID) redoTruncateVisibilityMap(parseSmgrTruncate(rec).blkno, vmBlock);
    else redoVisibilityMap(rec, vmBlock);
  } catch (error) {
    throw withRecord(error, rec, pg, `block ${vmBlock} of the visibility map`);
  }
}

function restoreImage(rec: WalRecord, blk: number): void {
  restoreBlockImage(rec, blk, W8, PAGE);
  // The image is from before the record; an all-zero page has no LSN and stays without one.
  if (!pageIsNew(PAGE)) pageSetLsn(PAGE, rec.endLsn);
  if (rec.xl_rmid === RM_GIST_ID) redoGistAfterImage(rec, blk);
}

function applyRecord(rec: WalRecord, blk: number, pg: RedoFormat): void {
  if ((rec.blockFlags[blk] & BKPBLOCK_WILL_INIT) !== 0) W8.fill(0, PAGE, PAGE + BLCKSZ);
  const redo = pg.redo[recordTypeIndex(rec.xl_rmid, rec.xl_info)];
  if (redo === undefined) throw new RedoNotImplementedError(`redo not implemented: ${recordName(rec, pg)}`);
  redo(rec, blk);
}

function blockName(rec: WalRecord, blk: number): string {
  const fork = forkName(rec.blockFlags[blk] & BKPBLOCK_FORK_MASK);
  return `block ${rec.blkno[blk]} (${fork}) of relation ${rec.spcNode[blk]}/${rec.dbNode[blk]}/${
    rec.relNode[blk]
  }, block reference ${blk}`;
}

function recordName(rec: WalRecord, pg: RedoFormat): string {
  return `${rmgrName(rec.xl_rmid)} ${recordTypeName(pg, rec.xl_rmid, rec.xl_info)} that ends at ${
    formatLsn(rec.endLsn as Lsn)
  }`;
}

/**
 * Adds which record and block it was. Anything but a complaint about the data is a bug and passes
 * unchanged.
 */
function withRecord(error: unknown, rec: WalRecord, pg: RedoFormat, where: string): unknown {
  if (!(error instanceof RedoError) && !(error instanceof WalError)) return error;
  return new RedoError(`redo of ${recordName(rec, pg)} to ${where}: ${error.message}`, { cause: error });
}
