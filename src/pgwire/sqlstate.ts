/**
 * Maps Zenith's error kinds to SQLSTATEs and back, so that an error keeps its kind across a
 * connection between two Zenith processes. Names and classes are those of PostgreSQL's
 * utils/errcodes.txt.
 */
import { AssertionError } from "../common/assert.ts";
import { type ErrorKind, errorMessage, ZenithError } from "../common/errors.ts";

export const SQLSTATE_PROTOCOL_VIOLATION = "08P01";
export const SQLSTATE_FEATURE_NOT_SUPPORTED = "0A000";
export const SQLSTATE_CHARACTER_NOT_IN_REPERTOIRE = "22021";
export const SQLSTATE_INVALID_PREPARED_STATEMENT = "26000";
export const SQLSTATE_INVALID_AUTHORIZATION = "28000";
export const SQLSTATE_INVALID_PASSWORD = "28P01";
export const SQLSTATE_INVALID_CURSOR_NAME = "34000";
export const SQLSTATE_DUPLICATE_PREPARED_STATEMENT = "42P05";
export const SQLSTATE_OUT_OF_MEMORY = "53200";
export const SQLSTATE_TOO_MANY_CONNECTIONS = "53300";
export const SQLSTATE_CONFIGURATION_LIMIT_EXCEEDED = "53400";
export const SQLSTATE_QUERY_CANCELED = "57014";
export const SQLSTATE_ADMIN_SHUTDOWN = "57P01";
export const SQLSTATE_IDLE_SESSION_TIMEOUT = "57P05";
export const SQLSTATE_INTERNAL_ERROR = "XX000";

/** Each kind has its own code, so {@link kindOfSqlstate} is the inverse. */
const SQLSTATE_OF_KIND: Readonly<Record<ErrorKind, string>> = {
  invalid_argument: "22023", // invalid_parameter_value
  not_found: "42704", // undefined_object
  already_exists: "42710", // duplicate_object
  forbidden: "42501", // insufficient_privilege
  conflict: "55006", // object_in_use
  out_of_range: "22003", // numeric_value_out_of_range
  corrupt_data: "XX001", // data_corrupted
  protocol: SQLSTATE_PROTOCOL_VIOLATION,
  not_implemented: SQLSTATE_FEATURE_NOT_SUPPORTED,
  unavailable: "57P03", // cannot_connect_now
  timeout: SQLSTATE_QUERY_CANCELED,
  disk_full: "53100", // disk_full
  limit_exceeded: SQLSTATE_CONFIGURATION_LIMIT_EXCEEDED,
  io: "58030", // io_error
};

const KIND_OF_SQLSTATE: ReadonlyMap<string, ErrorKind> = new Map(
  Object.entries(SQLSTATE_OF_KIND).map(([kind, sqlstate]) => [sqlstate, kind as ErrorKind]),
);

/** What other codes mean to a caller, by their first two characters (the class). */
const KIND_OF_CLASS: ReadonlyMap<string, ErrorKind> = new Map([
  ["08", "unavailable"],
  ["0A", "not_implemented"],
  ["22", "invalid_argument"],
  ["26", "not_found"],
  ["28", "forbidden"],
  ["3D", "not_found"],
  ["42", "invalid_argument"],
  ["53", "unavailable"],
  ["55", "conflict"],
  ["57", "unavailable"],
  ["58", "io"],
  ["XX", "io"],
]);

function sqlstateOfKind(kind: ErrorKind): string {
  return SQLSTATE_OF_KIND[kind];
}

/**
 * Returns the kind for `sqlstate`; `conflict` for the many codes of SQL proper that have no
 * counterpart.
 */
export function kindOfSqlstate(sqlstate: string): ErrorKind {
  return KIND_OF_SQLSTATE.get(sqlstate) ?? KIND_OF_CLASS.get(sqlstate.slice(0, 2)) ?? "conflict";
}

/**
 * An error with its own SQLSTATE, which a server has reported or one of Zenith's servers is to
 * report.
 */
export class PgError extends ZenithError {
  override name = "PgError";
  readonly sqlstate: string;
  /** `ERROR`, `FATAL`, `PANIC`. The connection is gone after the last two. */
  readonly severity: string;

  constructor(
    sqlstate: string,
    message: string,
    options: { severity?: string; hint?: string; cause?: unknown } = {},
  ) {
    super(kindOfSqlstate(sqlstate), message, options);
    this.sqlstate = sqlstate;
    this.severity = options.severity ?? "ERROR";
  }
}

/**
 * The peer sent something that the protocol does not allow. The stream can't be trusted any more
 * and is closed.
 */
export class ProtocolError extends PgError {
  override name = "ProtocolError";

  constructor(message: string, sqlstate: string = SQLSTATE_PROTOCOL_VIOLATION) {
    super(sqlstate, message, { severity: "FATAL" });
  }
}

/** The fields of an ErrorResponse for an exception of any type. */
export interface ErrorReport {
  sqlstate: string;
  message: string;
  hint: string | undefined;
}

export function reportOf(error: unknown): ErrorReport {
  if (error instanceof PgError) {
    return { sqlstate: error.sqlstate, message: error.message, hint: error.hint };
  }
  if (error instanceof ZenithError) {
    return { sqlstate: sqlstateOfKind(error.kind), message: error.message, hint: error.hint };
  }
  const what = error instanceof AssertionError ? "assertion failed: " : "internal error: ";
  return { sqlstate: SQLSTATE_INTERNAL_ERROR, message: what + errorMessage(error), hint: undefined };
}
