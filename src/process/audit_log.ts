/** A server's audit log: a line of JSON for each change, and who made it. */
import { ioError } from "../common/errors.ts";
import { LOG_MAX_BYTES } from "./cut_log.ts";
import { type LineSink, openLog } from "./rotating_file.ts";

/** It says who does what, which is nobody else's business. */
const MODE = 0o600;

/** One change, or an attempt at one. */
export interface AuditEntry {
  /** The token's id, whom it was made for, and its scope. */
  readonly token: string;
  readonly for: string;
  readonly scope: string;
  /** The client's `address:port`. */
  readonly client: string;
  /** The command, what it names, and its other arguments. */
  readonly command: string;
  readonly tenant: string | null;
  readonly timelines: readonly string[];
  readonly args: Readonly<Record<string, string>>;
  readonly outcome: "done" | "refused" | "failed";
  /** Why it was refused or failed. */
  readonly error: string | null;
}

export interface AuditLog {
  write(entry: AuditEntry): void;
}

/**
 * Opens an audit log, which is rotated as logs are.
 *
 * @param file appended to
 * @throws {ZenithError} `io` when it can't be opened
 */
export function openAuditLog(file: string): AuditLog {
  const lines = openLines(file);
  return {
    write: (entry) => lines.write(`${JSON.stringify({ time: new Date().toISOString(), ...entry })}\n`),
  };
}

function openLines(file: string): LineSink {
  try {
    return openLog(file, LOG_MAX_BYTES, MODE);
  } catch (error) {
    throw ioError("open", file, error);
  }
}
