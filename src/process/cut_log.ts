/** Limits the size of a log that another program writes. */
import { copyFileSync, statSync, truncateSync } from "node:fs";

/** When a log has this size, it is renamed to `<name>.1`, which replaces the previous one. */
export const LOG_MAX_BYTES = 16 << 20;

/**
 * Rotates a log that another program keeps open for appending: copies its content, then truncates
 * it. Lines that are written between the two steps are lost.
 *
 * @throws what the file operations throw
 */
export function cutLog(file: string, maxBytes = LOG_MAX_BYTES): void {
  if (statSync(file).size <= maxBytes) return;
  copyFileSync(file, `${file}.1`);
  truncateSync(file, 0);
}
