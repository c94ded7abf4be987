/**
 * Redo of vacuum on SP-GiST pages (spgRedoVacuumLeaf, spgRedoVacuumRoot, spgRedoVacuumRedirect).
 * Block 0 is the page.
 */
import type { WalRecord } from "../../wal/record.ts";
import { INVALID_BLOCK_NUMBER, INVALID_OFFSET_NUMBER } from "../page/item_pointer.ts";
import { itemId, pageIndexMultiDelete, pageSetLsn, setItemId } from "../page/page.ts";
import { mainData, unexpectedBlock } from "../page/record_data.ts";
import {
  addPlaceholders,
  addRedirections,
  checkSpgistPage,
  deleteFrom,
  redirectToPlaceholder,
  replaceByDeadTuples,
  setNextOffset,
  SIZE_OF_OFFSET_NUMBER,
  SPGIST_DEAD,
  SPGIST_PLACEHOLDER,
} from "./spgist_page.ts";
import { PAGE, u16 } from "../page/workspace.ts";

// spgxlogVacuumLeaf, followed by six lists of offset numbers
const LEAF_N_DEAD = 0;
const LEAF_N_PLACEHOLDER = 2;
const LEAF_N_MOVE = 4;
const LEAF_N_CHAIN = 6;
const SIZE_OF_VACUUM_LEAF = 16;

/**
 * Tuples of a leaf page become dead ones or placeholders; live ones move to the head of their
 * chain, so that the downlink still finds them; chains are closed over the gaps.
 */
export function redoVacuumLeaf(rec: WalRecord, blk: number): void {
  if (blk !== 0) throw unexpectedBlock(blk);
  const xlrec = mainData(rec, SIZE_OF_VACUUM_LEAF);
  const nDead = u16(xlrec + LEAF_N_DEAD);
  const nPlaceholder = u16(xlrec + LEAF_N_PLACEHOLDER);
  const nMove = u16(xlrec + LEAF_N_MOVE);
  const nChain = u16(xlrec + LEAF_N_CHAIN);
  mainData(
    rec,
    SIZE_OF_VACUUM_LEAF + (nDead + nPlaceholder + 2 * nMove + 2 * nChain) * SIZE_OF_OFFSET_NUMBER,
  );
  const toDead = xlrec + SIZE_OF_VACUUM_LEAF;
  const toPlaceholder = toDead + nDead * SIZE_OF_OFFSET_NUMBER;
  const moveSrc = toPlaceholder + nPlaceholder * SIZE_OF_OFFSET_NUMBER;
  const moveDest = moveSrc + nMove * SIZE_OF_OFFSET_NUMBER;
  const chainSrc = moveDest + nMove * SIZE_OF_OFFSET_NUMBER;
  const chainDest = chainSrc + nChain * SIZE_OF_OFFSET_NUMBER;

  replaceAll(toDead, nDead, SPGIST_DEAD);
  replaceAll(toPlaceholder, nPlaceholder, SPGIST_PLACEHOLDER);
  for (let i = 0; i < nMove; i++) {
    const src = u16(moveSrc + i * SIZE_OF_OFFSET_NUMBER);
    const dest = u16(moveDest + i * SIZE_OF_OFFSET_NUMBER);
    const moved = itemId(PAGE, src);
    setItemId(PAGE, src, itemId(PAGE, dest));
    setItemId(PAGE, dest, moved);
  }
  replaceAll(moveSrc, nMove, SPGIST_PLACEHOLDER);
  for (let i = 0; i < nChain; i++) {
    setNextOffset(u16(chainSrc + i * SIZE_OF_OFFSET_NUMBER), u16(chainDest + i * SIZE_OF_OFFSET_NUMBER));
  }
}

function replaceAll(offsets: number, count: number, state: number): void {
  replaceByDeadTuples(offsets, count, state, state, INVALID_BLOCK_NUMBER, INVALID_OFFSET_NUMBER, 0);
}

// spgxlogVacuumRoot, followed by the offset numbers to delete, ascending
const ROOT_N_DELETE = 0;
const SIZE_OF_VACUUM_ROOT = 12;

/**
 * On a root page that is a leaf nothing points to a tuple, so deleted tuples are simply removed.
 */
export function redoVacuumRoot(rec: WalRecord, blk: number): void {
  if (blk !== 0) throw unexpectedBlock(blk);
  const nDelete = u16(mainData(rec, SIZE_OF_VACUUM_ROOT) + ROOT_N_DELETE);
  const toDelete = mainData(rec, SIZE_OF_VACUUM_ROOT + nDelete * SIZE_OF_OFFSET_NUMBER) + SIZE_OF_VACUUM_ROOT;
  pageIndexMultiDelete(PAGE, toDelete, nDelete);
}

// spgxlogVacuumRedirect, followed by the offset numbers of the redirections
const REDIRECT_N_TO_PLACEHOLDER = 0;
const REDIRECT_FIRST_PLACEHOLDER = 2;
const SIZE_OF_VACUUM_REDIRECT = 8;
/** From PostgreSQL 16 on: the same with bool isCatalogRel and padding at its end. */
const SIZE_OF_VACUUM_REDIRECT_16 = 10;

/** Applies XLOG_SPGIST_VACUUM_REDIRECT; the caller sets the page's LSN. */
export function redoVacuumRedirect(rec: WalRecord, blk: number): void {
  vacuumRedirect(rec, blk, SIZE_OF_VACUUM_REDIRECT);
}

/**
 * Applies XLOG_SPGIST_VACUUM_REDIRECT, from PostgreSQL 16 on. @throws {RedoError} when the record
 * or the page is malformed
 */
export function redoVacuumRedirect16(rec: WalRecord, blk: number): void {
  vacuumRedirect(rec, blk, SIZE_OF_VACUUM_REDIRECT_16);
  pageSetLsn(PAGE, rec.endLsn);
}

/**
 * Redirections that nobody follows any more become placeholders; placeholders at the end of the
 * page are removed. `structSize`: where in the main data the offset numbers start.
 */
function vacuumRedirect(rec: WalRecord, blk: number, structSize: number): void {
  if (blk !== 0) throw unexpectedBlock(blk);
  const xlrec = mainData(rec, structSize);
  const count = u16(xlrec + REDIRECT_N_TO_PLACEHOLDER);
  mainData(rec, structSize + count * SIZE_OF_OFFSET_NUMBER);
  checkSpgistPage();
  for (let i = 0; i < count; i++) {
    redirectToPlaceholder(u16(xlrec + structSize + i * SIZE_OF_OFFSET_NUMBER));
  }
  addRedirections(-count);
  addPlaceholders(count);

  const firstPlaceholder = u16(xlrec + REDIRECT_FIRST_PLACEHOLDER);
  if (firstPlaceholder !== INVALID_OFFSET_NUMBER) deleteFrom(firstPlaceholder);
}
