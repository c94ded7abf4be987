/** A log file of limited size. When it is full, it is renamed and a new one begins. */
import { renameSync, statSync } from "node:fs";
import { destination } from "pino";
import { LOG_MAX_BYTES } from "./cut_log.ts";

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
  /** Closes the file. Later lines are dropped. */
  close(): void;
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
  let isClosed = false;
  const close = (): void => {
    if (isClosed || file === undefined) return;
    isClosed = true;
    out.end();
  };
  if (file === undefined) return { write: (line) => out.write(line), close };
  let bytes = statSync(file).size;
  return {
    close,
    write(line) {
      if (isClosed) return;
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
