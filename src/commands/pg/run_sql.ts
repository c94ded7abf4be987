/** Runs SQL statements with the `postgres` package and prints their results. */
import postgres from "postgres";
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { formatHostPort, type HostPort } from "../../common/host_port.ts";
import type { Session } from "../../compute/postgres/postgres_conf.ts";
import { ZENITH_SUPERUSER } from "../../pg_install/initdb.ts";
import { EXIT_FAILED } from "../cli/command.ts";
import { formatTable, print, printJson } from "../cli/output.ts";

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
  const sql = postgres({
    host: address.host,
    port: address.port,
    user: user ?? ZENITH_SUPERUSER,
    database: database ?? "postgres",
    password: password ?? process.env["PGPASSWORD"] ?? "",
    max: 1,
    fetch_types: false,
    connection: { application_name: "zenith sql" },
    onnotice: (notice) => process.stderr.write(`${notice["severity"]}: ${notice["message"]}\n`),
  });
  try {
    const results = await run(sql, text);
    if (format === "json") printJson(results.at(-1)?.objects() ?? []);
    else for (const result of results) result.print(format === "csv");
    return 0;
  } catch (error) {
    return report(error, formatHostPort(address));
  } finally {
    await sql.end();
  }
}

interface Column {
  readonly name: string;
  /** The OID of its type. */
  readonly type: number;
}

/** The result of one statement, with values in PostgreSQL's text format. */
class SqlResult {
  readonly #columns: readonly Column[];
  readonly #rows: readonly (readonly (string | null)[])[];
  readonly #tag: string;

  constructor(columns: readonly Column[], rows: readonly (readonly (string | null)[])[], tag: string) {
    this.#columns = columns;
    this.#rows = rows;
    this.#tag = tag;
  }

  print(csv: boolean): void {
    if (this.#columns.length === 0) {
      if (!csv) print(this.#tag);
      return;
    }
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

async function run(sql: postgres.Sql, text: string): Promise<SqlResult[]> {
  const outcome = await sql.unsafe(text).raw();
  // Several statements return an array of results, a single one returns its rows. The driver merges
  // adjacent statements that return no rows, and keeps the tag of the last.
  const all =
    (Array.isArray(outcome[0]) && "command" in outcome[0] ? outcome : [outcome]) as unknown as RawResult[];
  return all.map((result) => {
    const columns = result.columns ?? [];
    const rows = columns.length === 0 ? [] : [...result].map((row) => row.map(decode));
    return new SqlResult(columns, rows, tagOf(result));
  });
}

/** Rows of raw values from the wire, with the properties that the driver adds to the array. */
type RawResult = readonly (readonly (Uint8Array | null)[])[] & {
  readonly columns?: readonly Column[];
  readonly command: string;
  readonly count: number | null;
};

const decode = (value: Uint8Array | null): string | null =>
  value === null ? null : new TextDecoder().decode(value);

/** Returns a command tag such as `INSERT 3`: psql's, without the OID. */
function tagOf({ command, count }: RawResult): string {
  return count === null || count === undefined ? command : `${command} ${count}`;
}

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
