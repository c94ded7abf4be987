/** A log file that never grows beyond a limit: when it is full, it becomes the old one. */
import { copyFileSync, renameSync, statSync, truncateSync } from "node:fs";
import { destination } from "pino";

/** A log grows to this size; then it becomes `<name>.1`, in the place of the one before. */
export const LOG_MAX_BYTES = 16 << 20;

/**
 * How many lines to keep while the disk is full; further ones are dropped. Logging never stops a
 * server.
 */
const BACKLOG_MAX_BYTES = 1 << 20;

const STDERR_FD = 2;

/** Where pino writes its lines. */
export interface LineSink {
  write(line: string): void;
}

/** @param file appended to; standard error when undefined @throws when it can't be opened */
export function openLog(file: string | undefined, maxBytes = LOG_MAX_BYTES): LineSink {
  const out = destination({
    dest: file ?? STDERR_FD,
    sync: true,
    append: true,
    maxLength: BACKLOG_MAX_BYTES,
  });
  out.on("error", ignoreWriteError);
  out.on("drop", ignoreWriteError);
  if (file === undefined) return out;
  let bytes = statSync(file).size;
  return {
    write(line) {
      if (bytes > 0 && bytes + line.length > maxBytes) {
        try {
          renameSync(file, `${file}.1`);
          out.reopen(file);
        } catch {
          // Continues in the same file, and tries again when its size has doubled.
        }
        bytes = 0;
      }
      bytes += line.length;
      out.write(line);
    },
  };
}

function ignoreWriteError(): void {}

/**
 * Rotates a log that another program keeps open for appending: copies its content, then truncates
 * it. Lines written in between are lost.
 *
 * @throws what the file operations throw
 */
export function cutLog(file: string, maxBytes = LOG_MAX_BYTES): void {
  if (statSync(file).size <= maxBytes) return;
  copyFileSync(file, `${file}.1`);
  truncateSync(file, 0);
}
