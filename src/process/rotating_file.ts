import { copyFileSync, renameSync, statSync, truncateSync } from "node:fs";
import { destination } from "pino";

/** A log grows to this size; then it becomes `<name>.1`, in the place of the one before. */
export const LOG_MAX_BYTES = 16 << 20;

/** Lines that can't be written now (the disk is full) are kept up to here, then dropped: logging never stops a server. */
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
          // It goes on in the same file, and is tried again when that has doubled.
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
 * For a log that another program has open for appending, and goes on with: what it holds is copied and taken away. What is written between
 * the two is lost.
 *
 * @throws what the file operations throw
 */
export function cutLog(file: string, maxBytes = LOG_MAX_BYTES): void {
  if (statSync(file).size <= maxBytes) return;
  copyFileSync(file, `${file}.1`);
  truncateSync(file, 0);
}
