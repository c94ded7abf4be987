/**
 * Hastens the collection of garbage that the runtime does not know to be much: buffers outside of its heap. JavaScriptCore looks at
 * the size of the whole machine's memory, and lets hundreds of megabytes of them lie where there is room. V8 counts them itself.
 */

/** What may have become garbage before a collection is asked for. It runs beside the program for the most part. */
const COLLECT_AFTER_BYTES = 48 << 20;

declare const Bun: { gc(force: boolean): void } | undefined;

let bytesSince = 0;

/** So many bytes of buffers have been allocated that will not be needed for long. */
export function noteShortLived(bytes: number): void {
  bytesSince += bytes;
  if (bytesSince < COLLECT_AFTER_BYTES) return;
  bytesSince = 0;
  if (typeof Bun !== "undefined") Bun.gc(true);
}
