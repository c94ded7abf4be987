/**
 * Reads and writes unsigned big-endian integers, the form of the PostgreSQL wire protocol and of
 * everything that we send over it. These functions check no bounds: callers know that the bytes are
 * there.
 */

export function uint32(bytes: Uint8Array, off: number): number {
  return ((bytes[off] << 24) | (bytes[off + 1] << 16) | (bytes[off + 2] << 8) | bytes[off + 3]) >>> 0;
}

/** Writes the lower 32 bits of a larger value. */
export function putUint32(bytes: Uint8Array, off: number, value: number): void {
  bytes[off] = value >>> 24;
  bytes[off + 1] = value >>> 16;
  bytes[off + 2] = value >>> 8;
  bytes[off + 3] = value;
}

/** A 64-bit integer: an LSN, a term or a time. A number fills 53 of the bits. */
export function putUint64(bytes: Uint8Array, off: number, value: number): void {
  putUint32(bytes, off, Math.floor(value / 0x1_0000_0000));
  putUint32(bytes, off + 4, value);
}
