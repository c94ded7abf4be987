/** SQL over HTTP, as `@neondatabase/serverless` speaks it. docs/serve.md names what it can. */
import {
  array,
  type InferOutput,
  looseObject,
  maxLength,
  minLength,
  optional,
  pipe,
  string,
  unknown,
} from "valibot";
import { PgError, ProtocolError, SQLSTATE_INVALID_PASSWORD } from "../../pgwire/sqlstate.ts";
import { BackendRefusal, cancel } from "../proxy/backend.ts";
import { type Destination, findDestination, type Names } from "../proxy/destination.ts";
import type { Door } from "../proxy/door.ts";
import { keysOf } from "../proxy/login.ts";
import type { Wire } from "../proxy/wire.ts";
import { HttpError } from "../http/problem.ts";
import { type HttpRequest, type HttpResponse, readJson } from "../http/request.ts";
import { parseInput } from "../http/routes.ts";
import type { Site } from "../http/server.ts";
import { type Budget, query, type Result, RESULT_MAX_BYTES, SqlError } from "./query.ts";
import { ZenithError } from "../../common/errors.ts";

const REQUEST_MAX_BYTES = 10 << 20;
const BATCH_MAX = 1_000;

const QuerySchema = looseObject({
  query: pipe(string(), minLength(1)),
  params: optional(array(unknown()), []),
});
const BatchSchema = looseObject({ queries: pipe(array(QuerySchema), minLength(1), maxLength(BATCH_MAX)) });

type Query = InferOutput<typeof QuerySchema>;

const CORS = {
  "access-control-allow-origin": "*",
  "access-control-allow-headers":
    "Authorization, Content-Type, Neon-Connection-String, Neon-Raw-Text-Output, Neon-Array-Mode, " +
    "Neon-Pool-Opt-In, Neon-Batch-Read-Only, Neon-Batch-Isolation-Level, Neon-Batch-Deferrable",
  "access-control-max-age": "86400",
};

const ISOLATION: Readonly<Record<string, string>> = {
  ReadUncommitted: "READ UNCOMMITTED",
  ReadCommitted: "READ COMMITTED",
  RepeatableRead: "REPEATABLE READ",
  Serializable: "SERIALIZABLE",
};

export class Sql implements Site {
  readonly at = ["sql"];
  readonly #door: Door;
  readonly #names: () => Names;

  constructor(door: Door, names: () => Names) {
    this.#door = door;
    this.#names = names;
  }

  async handle(request: HttpRequest): Promise<HttpResponse> {
    const headers = { ...CORS, "neon-request-id": request.id };
    if (request.method === "OPTIONS") return { status: 200, headers };
    if (request.method !== "POST" || request.path.length !== 1) {
      throw new HttpError(405, "method_not_allowed", "POST /sql", { ...headers, allow: "POST, OPTIONS" });
    }
    try {
      return { status: 200, body: await this.#run(request), headers };
    } catch (error) {
      if (error instanceof HttpError) throw new HttpError(error.status, error.code, error.message, headers);
      if (!(error instanceof ZenithError)) throw error;
      return { status: 400, body: errorBody(error), headers };
    }
  }

  async #run(request: HttpRequest): Promise<unknown> {
    const isArrays = flag(request, "neon-array-mode");
    if (!flag(request, "neon-raw-text-output")) {
      throw new HttpError(
        400,
        "not_implemented",
        "only with Neon-Raw-Text-Output: true, which every driver sends",
      );
    }
    const { destination, password } = this.#target(request);
    const body = await readJson({
      ...request,
      headers: { ...request.headers, "content-type": "application/json" },
    }, REQUEST_MAX_BYTES);
    const isBatch = typeof body === "object" && body !== null && "queries" in body;
    const queries = isBatch
      ? parseInput("body", BatchSchema, body).queries
      : [parseInput("body", QuerySchema, body)];
    const begin = isBatch ? beginOf(request) : undefined;
    using opened = await this.#door.open(destination, (verifier, user) => keysOf(password, verifier, user));
    const { wire, cancelKey } = opened.backend;
    // Nobody waits for the answer any more, and the command would keep the Postgres awake.
    const leave = () => void cancel(opened.address, cancelKey).catch(() => undefined);
    const { signal } = request;
    signal.addEventListener("abort", leave);
    try {
      if (signal.aborted) throw new HttpError(400, "bad_request", "the sender has left");
      const budget: Budget = { bytes: RESULT_MAX_BYTES };
      if (begin !== undefined) await query(wire, begin, [], budget);
      const results: unknown[] = [];
      for (const one of queries) results.push(shape(await run(wire, one, budget), isArrays));
      if (begin !== undefined) await query(wire, "COMMIT", [], budget);
      return isBatch ? { results } : results[0];
    } finally {
      signal.removeEventListener("abort", leave);
      wire.destroy();
    }
  }

  /** @throws {HttpError} `400` */
  #target(request: HttpRequest): { destination: Destination; password: string } {
    const text = request.headers["neon-connection-string"];
    let url: URL;
    try {
      if (typeof text !== "string") throw new TypeError("it is missing");
      url = new URL(text);
      if (!/^postgres(ql)?:$/.test(url.protocol)) throw new TypeError("it is no postgres://");
      const user = decodeURIComponent(url.username);
      const database = decodeURIComponent(url.pathname.slice(1)) || user;
      const options = url.searchParams.get("options") ?? "";
      if (user === "" || /\0/.test(user + database + options)) throw new TypeError("it names no user");
      const params = new Map([["user", user], ["database", database]]);
      if (options !== "") params.set("options", options);
      const destination = findDestination(params, url.hostname.toLowerCase(), this.#names());
      this.#door.admit(destination.tenant, request.address);
      return { destination, password: decodeURIComponent(url.password) };
    } catch (error) {
      if (error instanceof ZenithError) throw error;
      throw new HttpError(400, "invalid_argument", "Neon-Connection-String is no connection string");
    }
  }
}

function run(wire: Wire, { query: sql, params }: Query, budget: Budget): Promise<Result> {
  if (sql.includes("\0")) throw new HttpError(400, "invalid_argument", "the query has a zero byte");
  return query(wire, sql, params.map(toText), budget);
}

function flag({ headers }: HttpRequest, name: string): boolean {
  return String(headers[name] ?? "").toLowerCase() === "true";
}

/** @throws {HttpError} `400` */
function beginOf(request: HttpRequest): string {
  const level = request.headers["neon-batch-isolation-level"];
  const isolation = level === undefined ? undefined : ISOLATION[String(level)];
  if (level !== undefined && isolation === undefined) {
    throw new HttpError(400, "invalid_argument", "Neon-Batch-Isolation-Level is none");
  }
  const modes = [
    ...(isolation === undefined ? [] : [`ISOLATION LEVEL ${isolation}`]),
    ...(flag(request, "neon-batch-read-only") ? ["READ ONLY"] : []),
    ...(flag(request, "neon-batch-deferrable") ? ["DEFERRABLE"] : []),
  ];
  return `BEGIN ${modes.join(" ")}`.trim();
}

function shape({ fields, rows, command, rowCount }: Result, isArrays: boolean): unknown {
  const names = fields.map(({ name }) => name);
  const shaped = isArrays
    ? rows
    : rows.map((row) => Object.fromEntries(row.map((value, i) => [names[i]!, value])));
  return { command, fields, rowAsArray: isArrays, rowCount, rows: shaped };
}

/** A parameter as PostgreSQL reads it. */
function toText(value: unknown): string | null {
  if (value === null || value === undefined) return null;
  if (Array.isArray(value)) return arrayText(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}

function arrayText(values: readonly unknown[]): string {
  const items = values.map((value) => {
    if (value === null || value === undefined) return "NULL";
    if (Array.isArray(value)) return arrayText(value);
    return `"${toText(value)!.replace(/[\\"]/g, "\\$&")}"`;
  });
  return `{${items.join(",")}}`;
}

/** By the names that the driver gives to the fields of an ErrorResponse. */
const FIELDS: Readonly<Record<string, string>> = {
  code: "C",
  detail: "D",
  hint: "H",
  position: "P",
  internalPosition: "p",
  internalQuery: "q",
  severity: "S",
  where: "W",
  table: "t",
  column: "c",
  schema: "s",
  dataType: "d",
  constraint: "n",
  file: "F",
  line: "L",
  routine: "R",
};

function errorBody(error: ZenithError): Record<string, unknown> {
  if (error instanceof SqlError) {
    const fields = Object.entries(FIELDS).map(([name, letter]) => [name, error.fields.get(letter) ?? null]);
    return { message: error.message, ...Object.fromEntries(fields) };
  }
  const isPg = error instanceof PgError || error instanceof BackendRefusal || error instanceof ProtocolError;
  const code = isPg ? error.sqlstate : error.kind === "forbidden" ? SQLSTATE_INVALID_PASSWORD : null;
  return { message: error.message, code, hint: error.hint ?? null, severity: "FATAL" };
}
