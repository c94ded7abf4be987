import { maskPageLsnAndChecksum, maskUnusedSpace } from "./common.ts";

/** generic_mask, src/backend/access/transam/generic_xlog.c */
export function maskGeneric(page: Uint8Array, _blkno: number): void {
  maskPageLsnAndChecksum(page);
  maskUnusedSpace(page);
}
