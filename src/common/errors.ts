/** The errors that we expect, and how anything thrown becomes text. */
import { redactPasswords } from "./redact.ts";

/**
 * What went wrong, as a caller can act on it. `pgwire` maps each to an SQLSTATE, the CLI to an exit
 * code.
 */
export const ERROR_KINDS = [
  /** The caller sent something that is malformed. */
  "invalid_argument",
  /** Tenant, timeline, branch, relation, file: not found. */
  "not_found",
  "already_exists",
  /** The state forbids it now: a compute is running, another writer is active. */
  "conflict",
  /** An LSN, block or offset outside what exists. */
  "out_of_range",
  /** Bytes that fail a checksum, a magic number or an internal bound. */
  "corrupt_data",
  /** The peer broke the protocol. */
  "protocol",
  "not_implemented",
  /** A peer or a resource can't be reached now; a retry may work. */
  "unavailable",
  "timeout",
  "disk_full",
  "io",
] as const;

export type ErrorKind = (typeof ERROR_KINDS)[number];

export interface ErrorOptionsExtra {
  /** What to do about it, one sentence. */
  hint?: string;
  cause?: unknown;
}

/**
 * An expected failure: says what was expected, what was found and where. The top of a command or a
 * connection catches it and reports it once. Passwords of connection strings in the message or the
 * hint are masked.
 */
export class ZenithError extends Error {
  override name = "ZenithError";
  readonly kind: ErrorKind;
  readonly hint: string | undefined;

  constructor(kind: ErrorKind, message: string, options: ErrorOptionsExtra = {}) {
    super(redactPasswords(message), options.cause === undefined ? undefined : { cause: options.cause });
    this.kind = kind;
    this.hint = options.hint === undefined ? undefined : redactPasswords(options.hint);
  }
}

/**
 * Whether the disk failed, rather than what is on it: the same read may succeed next time, so
 * nothing can be said of the file.
 */
export function isDiskFailure(error: unknown): boolean {
  return error instanceof ZenithError && (error.kind === "io" || error.kind === "disk_full");
}

/** The text of anything that was thrown, with passwords of connection strings masked. */
export function errorMessage(error: unknown): string {
  if (error instanceof ZenithError) return error.message;
  return redactPasswords(error instanceof Error ? error.message : String(error));
}

/** The system error code (`ENOENT`, `ECONNREFUSED`) of anything that was thrown, if it has one. */
export function systemErrorCode(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

/**
 * Wraps a failed file operation so that the message names the file and what to do.
 *
 * @param doing what was being done, e.g. `"write layer"`
 */
export function ioError(doing: string, path: string, cause: unknown): ZenithError {
  const code = systemErrorCode(cause);
  if (code === "ENOSPC" || code === "EDQUOT") {
    return new ZenithError("disk_full", `could not ${doing} ${path}: no space left on the disk`, {
      hint: "free some space on that file system; nothing that was acknowledged is lost",
      cause,
    });
  }
  return new ZenithError("io", `could not ${doing} ${path}: ${errorMessage(cause)}`, { cause });
}

/**
 * Runs a file operation and turns its failures into {@link ioError}s.
 *
 * @param doing as there
 */
export function withIoErrors<T>(doing: string, path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw error instanceof ZenithError ? error : ioError(doing, path, error);
  }
}
