/**
 * A process's log: lines of JSON. It limits repeated messages that peers cause, and masks
 * passwords.
 */
import { pino, stdSerializers, stdTimeFunctions } from "pino";
import { ZenithError } from "../common/errors.ts";
import { redactPasswords } from "../common/redact.ts";
import { Repetitions } from "./repetitions.ts";
import { openLog } from "./rotating_file.ts";

export type LogLevel = "debug" | "info" | "warn" | "error" | "silent";

/**
 * A message's fields: ids, LSNs already formatted, sizes. An `Error` under `err` is written with
 * its stack and cause.
 */
export type LogFields = Readonly<Record<string, unknown>>;

/**
 * Writes one line of JSON per call: `level`, `time` (ISO 8601), `name`, the bound fields, `msg`.
 */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** Returns the same log with fields that are added to every line, e.g. `{ tenant, timeline }`. */
  child(fields: LogFields): Logger;
}

/** A log that its owner can close. */
export interface OwnLogger extends Logger {
  /** Closes the file. What is logged later is dropped. */
  close(): void;
}

export interface LoggerOptions {
  /** The role that writes this log: `pageserver`, `compute`. */
  readonly name: string;
  /** The file to append to; standard error when absent. */
  readonly file?: string | undefined;
  readonly level?: LogLevel;
}

/** How much text from a peer one line may contain. */
const TEXT_MAX_LENGTH = 1000;

/**
 * Opens a log. Lines are written synchronously, so that the last lines of a dying process are
 * there. Servers log per connection and per state change, never per page or record.
 *
 * @throws when the file can't be opened
 */
export function createLogger(options: LoggerOptions): OwnLogger {
  const out = openLog(options.file);
  const logger = wrap(
    pino(
      {
        level: options.level ?? "info",
        base: { name: options.name, pid: process.pid },
        timestamp: stdTimeFunctions.isoTime,
        formatters: { level: (label) => ({ level: label }) },
        serializers: { err: describeError, command: shorten },
      },
      out,
    ),
    new Repetitions(),
  );
  return { ...logger, close: () => out.close() };
}

/** Describes an expected failure without a stack trace. Only a bug needs one. */
function describeError(error: unknown): unknown {
  if (!(error instanceof ZenithError)) {
    return redacted(error instanceof Error ? { ...stdSerializers.err(error) } : error);
  }
  const { name, kind, message, hint, cause } = error;
  return {
    type: name,
    kind,
    message: shorten(message),
    ...(hint === undefined ? {} : { hint: shorten(hint) }),
    ...(cause === undefined ? {} : { cause: describeError(cause) }),
  };
}

/** Returns the same value without passwords in its strings, at any depth. */
function redacted(value: unknown): unknown {
  if (typeof value === "string") return redactPasswords(value);
  if (Array.isArray(value)) return value.map(redacted);
  return isPlainObject(value) ? redactedFields(value) : value;
}

function redactedFields(fields: LogFields): LogFields {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, redacted(value)]));
}

function isPlainObject(value: unknown): value is LogFields {
  if (typeof value !== "object" || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function shorten(text: unknown): unknown {
  return typeof text === "string" && text.length > TEXT_MAX_LENGTH
    ? `${text.slice(0, TEXT_MAX_LENGTH)}…`
    : text;
}

/** The part of pino's interface that is used here. */
interface PinoLike {
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: LogFields, message: string): void;
  error(fields: LogFields, message: string): void;
  child(fields: LogFields): PinoLike;
}

const NO_FIELDS: LogFields = {};

/**
 * Limits repeated warnings and errors, because peers can cause any number of them. A server's
 * messages about itself are not limited.
 */
function wrap(sink: PinoLike, repetitions: Repetitions): Logger {
  const write = (level: Exclude<LogLevel, "silent">, fields: LogFields, message: string): void => {
    sink[level](redactedFields(fields), redactPasswords(message));
  };
  const sparingly = (level: "warn" | "error", fields: LogFields, message: string): void => {
    const { err } = fields;
    const next = repetitions.next(`${level} ${message}${err instanceof Error ? ` ${err.message}` : ""}`);
    if (!next.write) return;
    write(level, next.suppressed === 0 ? fields : { ...fields, alike_left_out: next.suppressed }, message);
  };
  return {
    debug: (message, fields = NO_FIELDS) => write("debug", fields, message),
    info: (message, fields = NO_FIELDS) => write("info", fields, message),
    warn: (message, fields = NO_FIELDS) => sparingly("warn", fields, message),
    error: (message, fields = NO_FIELDS) => sparingly("error", fields, message),
    child: (fields) => wrap(sink.child(redactedFields(fields)), repetitions),
  };
}

/** A log that goes nowhere, for tests and for callers that don't want a log. */
export const NULL_LOGGER: Logger = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => NULL_LOGGER,
};
