/** Reads log files: their last lines, their last error, and what was appended since. */
import { closeSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import { ioError, systemErrorCode } from "../common/errors.ts";

/** A line of a Zenith log, as `src/process/log.ts` writes it. */
export interface LogLine {
  readonly level: string;
  /** ISO 8601. */
  readonly time: string;
  readonly name: string;
  readonly msg: string;
  /** All other fields of the line. */
  readonly fields: Readonly<Record<string, unknown>>;
}

/**
 * Parses a log line. Returns undefined for a line that Zenith did not write, such as a runtime's
 * crash message or Postgres's own log.
 */
export function parseLogLine(text: string): LogLine | undefined {
  if (!text.startsWith("{")) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const { level, time, name, msg, pid: _pid, ...fields } = value as Record<string, unknown>;
  return [level, time, name, msg].every((part) => typeof part === "string")
    ? { level: level as string, time: time as string, name: name as string, msg: msg as string, fields }
    : undefined;
}

/** How much of a log's end to search for the reason why a process ended. */
const LAST_WORDS_BYTES = 1 << 20;

/** Returns the last error that a process has logged since its last start, to show to the user. */
export function lastErrorInLog(path: string): string | undefined {
  const tail = readTail(path, LAST_WORDS_BYTES);
  const lines = (tail?.text ?? "").split("\n").map(parseLogLine).filter((line) => line !== undefined);
  const started = lines.findLastIndex((line) => line.msg === "starting");
  return lines.slice(started + 1).findLast((line) => line.level === "error")?.msg;
}

export interface Tail {
  readonly text: string;
  /** Where the file ended when it was read. Later lines begin there. */
  readonly end: FilePosition;
}

/** A position in a file. The inode distinguishes the file from a later one of the same name. */
export interface FilePosition {
  readonly inode: number;
  readonly offset: number;
}

/** Returns the last `lines` lines of a file; undefined when the file does not exist. */
export function lastLines(path: string, lines: number): Tail | undefined {
  for (let bytes = 64 << 10;; bytes *= 4) {
    const tail = readTail(path, bytes);
    if (tail === undefined) return undefined;
    const all = tail.text.split("\n");
    // Text after the last line feed is a line that is still being written.
    const complete = all.at(-1) === "" ? all.slice(0, -1) : all;
    const whole = tail.end.offset <= bytes;
    // The first line may be cut off.
    if (whole || complete.length > lines) {
      const kept = lines === 0 ? [] : complete.slice(-lines);
      return { text: kept.map((line) => `${line}\n`).join(""), end: tail.end };
    }
  }
}

/**
 * Returns what was written to a file since `from`, or the whole file when it was replaced or
 * truncated since. Undefined when the file does not exist.
 *
 * @param maxBytes more is left for the next time, and so is a line that is not complete. Undefined
 *   for all that there is.
 */
export function readSince(
  path: string,
  from: FilePosition | undefined,
  maxBytes?: number,
): Tail | undefined {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) return undefined;
  const goesOn = from !== undefined && from.inode === found.ino && from.offset <= found.size;
  if (goesOn && from.offset === found.size) return { text: "", end: from };
  return readFrom(path, () => goesOn ? from.offset : 0, maxBytes);
}

function readTail(path: string, bytes: number): Tail | undefined {
  return readFrom(path, (size) => Math.max(0, size - bytes));
}

function readFrom(
  path: string,
  start: (size: number) => number,
  maxBytes?: number,
): Tail | undefined {
  try {
    const fd = openSync(path, "r");
    try {
      const { size, ino } = fstatSync(fd);
      const from = start(size);
      const buffer = Buffer.alloc(Math.min(size - from, maxBytes ?? size));
      let read = 0;
      while (read < buffer.length) {
        const count = readSync(fd, buffer, read, buffer.length - read, from + read);
        if (count === 0) break;
        read += count;
      }
      if (maxBytes !== undefined) {
        // A line that is longer than that comes in pieces.
        const complete = buffer.lastIndexOf("\n", read - 1) + 1;
        if (complete > 0 || read < maxBytes) read = complete;
      }
      return { text: buffer.toString("utf8", 0, read), end: { inode: ino, offset: from + read } };
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return undefined;
    throw ioError("read", path, error);
  }
}
