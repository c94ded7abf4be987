/**
 * Makes the runtime collect garbage that it underestimates: buffers outside its heap.
 * JavaScriptCore looks at the whole machine's memory, and leaves hundreds of megabytes of such
 * buffers alone while there is room. V8 counts them itself.
 */

/** How much garbage may pile up before we request a collection, most of which runs in parallel. */
const COLLECT_AFTER_BYTES = 48 << 20;

declare const Bun: { gc(force: boolean): void } | undefined;

let bytesSince = 0;

/** Reports that this many bytes of short-lived buffers were allocated. */
export function noteShortLived(bytes: number): void {
  bytesSince += bytes;
  if (bytesSince < COLLECT_AFTER_BYTES) return;
  collectGarbage();
}

/** Collects garbage now, where the runtime lets us. */
export function collectGarbage(): void {
  bytesSince = 0;
  if (typeof Bun !== "undefined") Bun.gc(true);
}
