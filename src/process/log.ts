import { destination, pino, stdTimeFunctions } from "pino";

export type LogLevel = "debug" | "info" | "warn" | "error" | "silent";

/** What goes with a message: ids, LSNs already formatted, sizes. An `Error` under `err` is written with its stack and cause. */
export type LogFields = Readonly<Record<string, unknown>>;

/** One line of JSON per call: `level`, `time` (ISO 8601), `name`, the bound fields, `msg`. */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** The same log with fields that go with every line, e.g. `{ tenant, timeline }`. */
  child(fields: LogFields): Logger;
}

export interface LoggerOptions {
  /** The role that writes: `pageserver`, `compute`. */
  readonly name: string;
  /** Appended to; standard error when absent. */
  readonly file?: string | undefined;
  readonly level?: LogLevel;
}

/** Lines that can't be written now (the disk is full) are kept up to here, then dropped: logging never stops a server. */
const BACKLOG_MAX_BYTES = 1 << 20;

const STDERR_FD = 2;

/**
 * Opens a log. Lines are written synchronously, so that the last words of a process that dies are there; servers
 * log per connection and per state change, never per page or record.
 *
 * @throws when the file can't be opened
 */
export function createLogger(options: LoggerOptions): Logger {
  const out = destination({
    dest: options.file ?? STDERR_FD,
    sync: true,
    append: true,
    maxLength: BACKLOG_MAX_BYTES,
  });
  out.on("error", ignoreWriteError);
  out.on("drop", ignoreWriteError);
  return wrap(pino(
    {
      level: options.level ?? "info",
      base: { name: options.name, pid: process.pid },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    out,
  ));
}

function ignoreWriteError(): void {}

/** The part of pino's interface that is used here. */
interface PinoLike {
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: LogFields, message: string): void;
  error(fields: LogFields, message: string): void;
  child(fields: LogFields): PinoLike;
}

const NO_FIELDS: LogFields = {};

function wrap(sink: PinoLike): Logger {
  return {
    debug: (message, fields = NO_FIELDS) => sink.debug(fields, message),
    info: (message, fields = NO_FIELDS) => sink.info(fields, message),
    warn: (message, fields = NO_FIELDS) => sink.warn(fields, message),
    error: (message, fields = NO_FIELDS) => sink.error(fields, message),
    child: (fields) => wrap(sink.child(fields)),
  };
}

/** A log that goes nowhere, for tests and for callers that don't want one. */
export const NULL_LOGGER: Logger = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => NULL_LOGGER,
};
