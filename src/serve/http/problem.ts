/** Errors as the HTTP API tells them: `{code, message, request_id, hint}`. */
import { type ErrorKind, ZenithError } from "../../common/errors.ts";
import { kindOfSqlstate, PgError } from "../../pgwire/sqlstate.ts";

const STATUS_OF_KIND: Readonly<Record<ErrorKind, number>> = {
  invalid_argument: 400,
  out_of_range: 400,
  forbidden: 403,
  not_found: 404,
  already_exists: 409,
  conflict: 409,
  protocol: 502,
  unavailable: 503,
  limit_exceeded: 429,
  timeout: 504,
  not_implemented: 501,
  corrupt_data: 500,
  disk_full: 507,
  io: 500,
};

/** An error of HTTP itself, which no kind of ours has. */
export class HttpError extends Error {
  override name = "HttpError";
  readonly status: number;
  readonly code: string;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    code: string,
    message: string,
    headers: Readonly<Record<string, string>> = {},
  ) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}

export interface Problem {
  readonly status: number;
  readonly body: {
    readonly code: string;
    readonly message: string;
    readonly request_id: string;
    readonly hint: string | null;
  };
  readonly headers: Readonly<Record<string, string>>;
  /** Whether it is our own fault, whose details are for the log alone. */
  readonly isBug: boolean;
}

export function problemOf(error: unknown, requestId: string): Problem {
  const make = (status: number, code: string, message: string, hint: string | null = null): Problem => ({
    status,
    body: { code, message, request_id: requestId, hint },
    headers: error instanceof HttpError ? error.headers : {},
    isBug: status === 500,
  });
  if (error instanceof HttpError) return make(error.status, error.code, error.message);
  if (error instanceof PgError) {
    const kind = kindOfSqlstate(error.sqlstate);
    return make(STATUS_OF_KIND[kind], kind, error.message, error.hint ?? null);
  }
  if (error instanceof ZenithError) {
    return make(STATUS_OF_KIND[error.kind], error.kind, error.message, error.hint ?? null);
  }
  return make(500, "internal", "internal error: the log of zenith serve has it under this request_id");
}
