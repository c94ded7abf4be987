/** A log file of limited size. When it is full, it is renamed and a new one begins. */
import { copyFileSync, renameSync, statSync, truncateSync } from "node:fs";
import { destination } from "pino";

/** When a log has this size, it is renamed to `<name>.1`, which replaces the previous one. */
export const LOG_MAX_BYTES = 16 << 20;

/**
 * How many bytes of lines to keep in memory while the disk is full. Further lines are dropped:
 * logging never stops a server.
 */
const BACKLOG_MAX_BYTES = 1 << 20;

/** Support may read a log: it has no secrets. */
const LOG_MODE = 0o644;

const STDERR_FD = 2;

/** Where pino writes its lines. */
export interface LineSink {
  write(line: string): void;
}

/**
 * @param file appended to; standard error when undefined
 * @param mode of the file when it is created
 * @throws when the file can't be opened
 */
export function openLog(file: string | undefined, maxBytes = LOG_MAX_BYTES, mode = LOG_MODE): LineSink {
  const out = destination({
    dest: file ?? STDERR_FD,
    sync: true,
    append: true,
    maxLength: BACKLOG_MAX_BYTES,
    mode,
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
          // Keep writing to the same file. Try again when its size has doubled.
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
 * it. Lines that are written between the two steps are lost.
 *
 * @throws what the file operations throw
 */
export function cutLog(file: string, maxBytes = LOG_MAX_BYTES): void {
  if (statSync(file).size <= maxBytes) return;
  copyFileSync(file, `${file}.1`);
  truncateSync(file, 0);
}
