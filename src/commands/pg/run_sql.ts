/** Runs SQL statements with the `postgres` package and prints their results. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import postgres from "postgres";
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { formatHostPort, type HostPort } from "../../common/host_port.ts";
import type { Session } from "../../compute/postgres/postgres_conf.ts";
import { ZENITH_SUPERUSER } from "../../pg_install/initdb.ts";
import { EXIT_FAILED } from "../cli/command.ts";
import { formatTable, print, printJson } from "../cli/output.ts";
import { CommandTags, type Completed } from "./command_tags.ts";

export type SqlFormat = "table" | "csv" | "json";

/**
 * @param text one statement or several; several run as one transaction
 * @returns the exit code; an error from PostgreSQL is printed to standard error
 * @throws {ZenithError} `unavailable` when the connection can't be made or breaks
 */
export async function runSql(
  address: HostPort,
  { user, database, password }: Session,
  text: string,
  format: SqlFormat,
): Promise<number> {
  const tags = new CommandTags();
  const options: Options = {
    socket: () => connectSocket(address, (chunk) => tags.add(chunk)),
    host: address.host,
    port: address.port,
    user: user ?? ZENITH_SUPERUSER,
    database: database ?? "postgres",
    password: password ?? process.env["PGPASSWORD"] ?? "",
    max: 1,
    fetch_types: false,
    connection: { application_name: "zenith sql" },
    onnotice: (notice) => process.stderr.write(`${notice["severity"]}: ${notice["message"]}\n`),
  };
  const sql = postgres(options);
  try {
    const results = await run(sql, text);
    if (format === "json") printJson(results.at(-1)?.objects() ?? []);
    else printAll(tags.completed, results, format === "csv");
    return 0;
  } catch (error) {
    return report(error, formatHostPort(address));
  } finally {
    await sql.end();
  }
}

/** The package's types leave an option out. */
type Options = postgres.Options<Record<string, never>> & { readonly socket: () => Promise<Socket> };

async function connectSocket(
  { host, port }: HostPort,
  onData: (chunk: Uint8Array) => void,
): Promise<Socket> {
  const socket = connect({ host, port });
  await once(socket, "connect");
  return socket.on("data", onData);
}

/** Prints each statement's rows, or its tag when it returns none. */
function printAll(completed: readonly Completed[], results: readonly SqlResult[], csv: boolean): void {
  const rest = [...results];
  for (const { tag, hasRows } of completed) {
    const result = hasRows ? rest.shift() : undefined;
    if (result?.hasColumns === true) result.print(csv);
    else if (!csv) print(tag);
  }
}

interface Column {
  readonly name: string;
  /** The OID of its type. */
  readonly type: number;
}

/** What a statement returned, with values in PostgreSQL's text format. */
class SqlResult {
  readonly #columns: readonly Column[];
  readonly #rows: readonly (readonly (string | null)[])[];

  constructor(columns: readonly Column[], rows: readonly (readonly (string | null)[])[]) {
    this.#columns = columns;
    this.#rows = rows;
  }

  /** A `SELECT` without anything to select has rows, but no columns. */
  get hasColumns(): boolean {
    return this.#columns.length > 0;
  }

  print(csv: boolean): void {
    const names = this.#columns.map(({ name }) => name);
    if (csv) { for (const row of [names, ...this.#rows]) print(row.map(csvCell).join(",")); }
    else {
      const cells = this.#rows.map((row) => row.map((value) => (value ?? "").replaceAll("\n", "↵")));
      for (const line of formatTable([names, ...cells])) print(line);
      print(`(${this.#rows.length} ${this.#rows.length === 1 ? "row" : "rows"})`);
    }
  }

  objects(): Record<string, unknown>[] {
    return this.#rows.map((row) =>
      Object.fromEntries(
        row.map((value, i) => [this.#columns[i].name, jsonValue(value, this.#columns[i].type)]),
      )
    );
  }
}

/** Returns the results of the statements that return rows. */
async function run(sql: postgres.Sql, text: string): Promise<SqlResult[]> {
  const outcome = await sql.unsafe(text).raw();
  // Several statements return an array of results, a single one returns its rows.
  const all =
    (Array.isArray(outcome[0]) && "command" in outcome[0] ? outcome : [outcome]) as unknown as RawResult[];
  const found: SqlResult[] = [];
  for (const result of all) {
    if (result.columns === undefined || result.columns === null) continue;
    const rows = result.columns.length === 0 ? [] : [...result].map((row) => row.map(decode));
    found.push(new SqlResult(result.columns, rows));
  }
  return found;
}

/** Rows of raw values from the wire, with the properties that the driver adds to the array. */
type RawResult = readonly (readonly (Uint8Array | null)[])[] & {
  readonly columns?: readonly Column[] | null;
};

const decode = (value: Uint8Array | null): string | null =>
  value === null ? null : new TextDecoder().decode(value);

/** Formats a CSV cell by RFC 4180. As in COPY, NULL is empty and an empty string is quoted. */
function csvCell(value: string | null): string {
  if (value === null) return "";
  return value === "" || /[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
}

// pg_type.dat
const BOOL = 16;
const NUMBERS: ReadonlySet<number> = new Set([21, 23, 26, 700, 701]);
const INT8 = 20;
const JSON_TYPES: ReadonlySet<number> = new Set([114, 3802]);

/**
 * Converts values that JSON represents exactly (booleans, numbers up to 2^53, JSON); others stay
 * text.
 */
export function jsonValue(value: string | null, type: number): unknown {
  if (value === null) return null;
  if (type === BOOL) return value === "t";
  if (JSON_TYPES.has(type)) return JSON.parse(value);
  const isNumber = NUMBERS.has(type) || type === INT8;
  return isNumber && Number.isFinite(Number(value)) && (type !== INT8 || Number.isSafeInteger(Number(value)))
    ? Number(value)
    : value;
}

/** Prints a PostgreSQL error the way psql does. */
function report(error: unknown, address: string): number {
  if (!(error instanceof postgres.PostgresError)) {
    throw new ZenithError("unavailable", `${address}: ${errorMessage(error)}`, { cause: error });
  }
  const lines = [`${error.severity}: ${error.message} (${error.code})`];
  if (error.detail !== undefined) lines.push(`DETAIL: ${error.detail}`);
  if (error.hint !== undefined) lines.push(`HINT: ${error.hint}`);
  if (error.where !== undefined) lines.push(`CONTEXT: ${error.where}`);
  process.stderr.write(lines.join("\n") + "\n");
  return EXIT_FAILED;
}
