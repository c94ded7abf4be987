/** Logs as files: their ends, their last errors, and what is added to them. */
import { closeSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import { ioError, systemErrorCode } from "../common/errors.ts";

/** One line of our logs, as `src/process/log.ts` writes it. */
export interface LogLine {
  readonly level: string;
  /** ISO 8601. */
  readonly time: string;
  readonly name: string;
  readonly msg: string;
  /** Everything else on the line. */
  readonly fields: Readonly<Record<string, unknown>>;
}

/** undefined for a line that we did not write: a runtime's last words, Postgres's own log. */
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

/** How much of a log's end is looked through for the reason of a process's end. */
const LAST_WORDS_BYTES = 1 << 20;

/**
 * The last error that a process has logged since its last start, for a person who asks what
 * happened to it.
 */
export function lastErrorInLog(path: string): string | undefined {
  const tail = readTail(path, LAST_WORDS_BYTES);
  const lines = (tail?.text ?? "").split("\n").map(parseLogLine).filter((line) => line !== undefined);
  const started = lines.findLastIndex((line) => line.msg === "starting");
  return lines.slice(started + 1).findLast((line) => line.level === "error")?.msg;
}

export interface Tail {
  readonly text: string;
  /** Where the file ended when it was read: what comes later begins there. */
  readonly end: FilePosition;
}

/** A place in one file; another file of the same name is another file. */
export interface FilePosition {
  readonly inode: number;
  readonly offset: number;
}

/** The last `lines` lines of a file; undefined when there is no such file. */
export function lastLines(path: string, lines: number): Tail | undefined {
  for (let bytes = 64 << 10;; bytes *= 4) {
    const tail = readTail(path, bytes);
    if (tail === undefined) return undefined;
    const all = tail.text.split("\n");
    // What comes after the last line feed is a line that is being written.
    const complete = all.at(-1) === "" ? all.slice(0, -1) : all;
    const whole = tail.end.offset <= bytes;
    // The first one may be cut.
    if (whole || complete.length > lines) {
      const kept = lines === 0 ? [] : complete.slice(-lines);
      return { text: kept.map((line) => `${line}\n`).join(""), end: tail.end };
    }
  }
}

/**
 * What was written to a file since `from`, all of it when the file was replaced or cut since;
 * undefined when there is none.
 */
export function readSince(path: string, from: FilePosition | undefined): Tail | undefined {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) return undefined;
  const goesOn = from !== undefined && from.inode === found.ino && from.offset <= found.size;
  if (goesOn && from.offset === found.size) return { text: "", end: from };
  return readFrom(path, () => goesOn ? from.offset : 0);
}

function readTail(path: string, bytes: number): Tail | undefined {
  return readFrom(path, (size) => Math.max(0, size - bytes));
}

function readFrom(path: string, start: (size: number) => number): Tail | undefined {
  try {
    const fd = openSync(path, "r");
    try {
      const { size, ino } = fstatSync(fd);
      const from = start(size);
      const buffer = Buffer.alloc(size - from);
      let read = 0;
      while (read < buffer.length) {
        const count = readSync(fd, buffer, read, buffer.length - read, from + read);
        if (count === 0) break;
        read += count;
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
