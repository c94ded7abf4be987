/** seq_mask in src/backend/commands/sequence.c. */
import { maskPageLsnAndChecksum, maskUnusedSpace } from "./common.ts";

export function maskSequence(page: Uint8Array, _blkno: number): void {
  maskPageLsnAndChecksum(page);
  maskUnusedSpace(page);
}
