/**
 * Redo of generic WAL: how extensions with an index method of their own (contrib/bloom) log their
 * pages. Source: src/backend/access/transam/generic_xlog.c.
 */
import type { WalRecord } from "../wal/record.ts";
import { RedoError } from "./page/errors.ts";
import { pageSetLsn, pdLower, pdUpper } from "./page/page.ts";
import { BLCKSZ, copy, PAGE, u16, W8 } from "./page/workspace.ts";

/** A fragment of a delta starts with its offset in the page and its length, 16 bits each. */
const FRAGMENT_HEADER_SIZE = 4;

/**
 * Applies a generic record to block `blk`: its data is a list of byte ranges to overwrite. A page
 * that was logged whole carries an image instead and never gets here.
 *
 * @throws {RedoError} when a fragment is cut off or leaves the page, or the page has no valid free
 *   space afterwards
 */
export function redoGeneric(rec: WalRecord, blk: number): void {
  let at = rec.dataOff[blk];
  const end = at + rec.dataLen[blk];
  while (at < end) {
    if (end - at < FRAGMENT_HEADER_SIZE) {
      throw new RedoError(`page delta ends with ${end - at} bytes that can't be a fragment header`);
    }
    const offset = u16(at);
    const length = u16(at + 2);
    at += FRAGMENT_HEADER_SIZE;
    if (length > end - at) {
      throw new RedoError(`page delta fragment of ${length} bytes, but only ${end - at} are left`);
    }
    if (offset + length > BLCKSZ) {
      throw new RedoError(`page delta fragment writes bytes ${offset}..${offset + length} of the page`);
    }
    copy(PAGE + offset, at, length);
    at += length;
  }

  // The delta says nothing about the free space; the primary has zeroed it.
  const lower = pdLower(PAGE);
  const upper = pdUpper(PAGE);
  if (lower > upper || upper > BLCKSZ) {
    throw new RedoError(`page delta leaves pd_lower ${lower}, pd_upper ${upper}`);
  }
  W8.fill(0, PAGE + lower, PAGE + upper);
  pageSetLsn(PAGE, rec.endLsn);
}
