/** Decompresses the blocks of a layer file. */
import * as zlib from "node:zlib";

declare const Bun: { zstdDecompressSync(frame: Uint8Array): Uint8Array } | undefined;

/** Z_MIN_CHUNK: zlib accepts no smaller chunks. */
const MIN_CHUNK_BYTES = 64;

/**
 * Decompresses a zstd frame whose content is `rawLen` bytes long.
 *
 * @returns the content, which is shorter only when the frame has none
 * @throws {Error} when the frame is damaged, or its content is longer
 */
export function decompressFrame(frame: Uint8Array, rawLen: number): Uint8Array {
  // Bun's own function needs no stream and no window, so it takes half as long. It allocates what
  // the frame says.
  if (typeof Bun !== "undefined" && contentSize(frame) === rawLen) return Bun.zstdDecompressSync(frame);
  // Decompress in one piece. By default the result comes in pieces of 16 KiB, which are then copied
  // together. One extra byte keeps a second piece from being allocated.
  return zlib.zstdDecompressSync(frame, {
    maxOutputLength: rawLen,
    chunkSize: Math.max(rawLen + 1, MIN_CHUNK_BYTES),
  });
}

// The frame header, RFC 8878, 3.1.1.1.
const ZSTD_MAGIC = 0xfd2fb528;
const OFFSET_DESCRIPTOR = 4;
const SINGLE_SEGMENT = 0x20;
const DICTIONARY_ID_BYTES = [0, 1, 2, 4];
const TWO_POW_32 = 0x1_0000_0000;

/** Returns the length of the content as the frame's header states it; -1 when it does not. */
function contentSize(frame: Uint8Array): number {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  if (frame.length <= OFFSET_DESCRIPTOR || view.getUint32(0, true) !== ZSTD_MAGIC) return -1;
  const descriptor = frame[OFFSET_DESCRIPTOR];
  const isSingleSegment = (descriptor & SINGLE_SEGMENT) !== 0;
  const windowBytes = isSingleSegment ? 0 : 1;
  const at = OFFSET_DESCRIPTOR + 1 + windowBytes + DICTIONARY_ID_BYTES[descriptor & 3];
  const sizeBytes = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >>> 6];
  if (sizeBytes === 0 || at + sizeBytes > frame.length) return -1;
  switch (sizeBytes) {
    case 1:
      return frame[at];
    case 2:
      return view.getUint16(at, true) + 256;
    case 4:
      return view.getUint32(at, true);
    default:
      return view.getUint32(at + 4, true) * TWO_POW_32 + view.getUint32(at, true);
  }
}
