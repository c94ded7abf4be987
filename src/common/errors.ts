/** The errors that we expect, and the text of anything that was thrown. */
import { redactPasswords } from "./redact.ts";

/**
 * What went wrong, in terms that a caller can act on. `pgwire` maps each kind to an SQLSTATE, the
 * CLI to an exit code.
 */
export const ERROR_KINDS = [
  /** The caller sent something malformed. */
  "invalid_argument",
  /** A tenant, timeline, branch, relation or file does not exist. */
  "not_found",
  "already_exists",
  /** The caller may not do this, or has not proved who it is. */
  "forbidden",
  /** The current state forbids it: a compute is running, another writer is active. */
  "conflict",
  /** An LSN, block or offset is outside of what exists. */
  "out_of_range",
  /** Bytes fail a checksum, a magic number or an internal bound. */
  "corrupt_data",
  /** The peer broke the protocol. */
  "protocol",
  "not_implemented",
  /** A peer or a resource can't be reached now; a retry may work. */
  "unavailable",
  "timeout",
  "disk_full",
  /** A tenant has as much as it may. */
  "limit_exceeded",
  "io",
] as const;

export type ErrorKind = (typeof ERROR_KINDS)[number];

export interface ErrorOptionsExtra {
  /** What to do about it, one sentence. */
  hint?: string;
  cause?: unknown;
}

/**
 * An expected failure. It says what was expected, what was found and where. The top of a command or
 * a connection catches it and reports it once. Passwords in connection strings are masked, in the
 * message and in the hint.
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
 * Whether the disk failed, as opposed to the file being damaged. The same read may succeed next
 * time, so this says nothing about the file.
 */
export function isDiskFailure(error: unknown): boolean {
  return error instanceof ZenithError && (error.kind === "io" || error.kind === "disk_full");
}

/** Returns the text of anything that was thrown. Passwords in connection strings are masked. */
export function errorMessage(error: unknown): string {
  if (error instanceof ZenithError) return error.message;
  return redactPasswords(error instanceof Error ? error.message : String(error));
}

/**
 * Returns the system error code (`ENOENT`, `ECONNREFUSED`) of anything that was thrown, if it has
 * one.
 */
export function systemErrorCode(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

/**
 * Wraps the error of a failed file operation in a message that names the file and says what to do.
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
  const isForbidden = code === "EACCES" || code === "EPERM";
  return new ZenithError("io", `could not ${doing} ${path}: ${errorMessage(cause)}`, {
    cause,
    ...(isForbidden ? { hint: "do it as the user whom it belongs to, or as root" } : {}),
  });
}

/**
 * Runs a file operation and turns its failures into {@link ioError}s.
 *
 * @param doing as in {@link ioError}
 */
export function withIoErrors<T>(doing: string, path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw error instanceof ZenithError ? error : ioError(doing, path, error);
  }
}
