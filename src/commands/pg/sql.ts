/** `zenith sql`: statements on a branch from a host that has no psql. */
import { readFileSync } from "node:fs";
import postgres from "postgres";
import { errorMessage, ioError, ZenithError } from "../../common/errors.ts";
import { formatHostPort } from "../../common/host_port.ts";
import { parseBranchName } from "../../common/id.ts";
import { findCompute } from "../../control/computes.ts";
import { chooseTenant, loadEnvironment } from "../../control/environment.ts";
import { ZENITH_SUPERUSER } from "../../pg_install/initdb.ts";
import { type Command, EXIT_FAILED, JSON_OPTION, optionText, TENANT_OPTION } from "../cli/command.ts";
import { formatTable, print, printJson } from "../cli/output.ts";
import { SESSION_OPTIONS, sessionOf } from "./uri.ts";

export const sqlCommand: Command = {
  usage: "sql [branch]",
  description: "Run statements on a branch, main when none is named; needs no psql",
  options: [
    TENANT_OPTION,
    ...SESSION_OPTIONS,
    {
      flags: "-c, --command <sql>",
      description: "The statements; all together are one transaction",
      values: [],
    },
    { flags: "-f, --file <path>", description: 'A file of statements; "-" is standard input' },
    {
      ...JSON_OPTION,
      description: "Print an array with one object per row; of several statements, the last",
    },
    { flags: "--csv", description: "Print the rows as CSV, with a line of column names" },
  ],
  completions: ["branch"],
  examples: [
    ['sql main -c "select count(*) from t"', "One statement, as a table"],
    ["sql dev -f schema.sql", "A file"],
    ['sql main --json -c "select * from t"', "Rows for a program"],
  ],
  async run([name], options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const text = statements(optionText(options, "command"), optionText(options, "file"));
    const compute = findCompute(environment, tenant, parseBranchName(name ?? "main"));
    if (compute.status !== "running") {
      throw new ZenithError("unavailable", `the Postgres of branch ${compute.branch} is ${compute.status}`, {
        hint: `start it with "zenith pg start ${compute.branch}"`,
      });
    }
    const { user, database } = sessionOf(options);
    const sql = postgres({
      host: compute.address.host,
      port: compute.address.port,
      user: user ?? ZENITH_SUPERUSER,
      database: database ?? "postgres",
      password: process.env["PGPASSWORD"] ?? "",
      max: 1,
      fetch_types: false,
      connection: { application_name: "zenith sql" },
      onnotice: (notice) => process.stderr.write(`${notice["severity"]}: ${notice["message"]}\n`),
    });
    try {
      const results = await run(sql, text);
      if (options["json"] === true) printJson(results.at(-1)?.objects() ?? []);
      else for (const result of results) result.print(options["csv"] === true);
      return 0;
    } catch (error) {
      return report(error, formatHostPort(compute.address));
    } finally {
      await sql.end();
    }
  },
};

/** @throws {ZenithError} `invalid_argument`, `io` */
function statements(command: string | undefined, file: string | undefined): string {
  if ((command === undefined) === (file === undefined)) {
    throw new ZenithError("invalid_argument", "name the statements with -c, or a file of them with -f", {
      hint: '"zenith psql" is for a session',
    });
  }
  if (command !== undefined) return command;
  try {
    return readFileSync(file === "-" ? 0 : file!, "utf8");
  } catch (error) {
    throw ioError("read", file === "-" ? "standard input" : file!, error);
  }
}

interface Column {
  readonly name: string;
  /** Its type's oid. */
  readonly type: number;
}

/** What one statement has given, its values in PostgreSQL's text form. */
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
  // Several statements give an array of results, one gives its rows. The driver joins neighbours
  // that return no rows: the tag is that of the last.
  const all =
    (Array.isArray(outcome[0]) && "command" in outcome[0] ? outcome : [outcome]) as unknown as RawResult[];
  return all.map((result) => {
    const columns = result.columns ?? [];
    const rows = columns.length === 0 ? [] : [...result].map((row) => row.map(decode));
    return new SqlResult(columns, rows, tagOf(result));
  });
}

/** Rows of values as they came over the wire, and what the driver adds to the array. */
type RawResult = readonly (readonly (Uint8Array | null)[])[] & {
  readonly columns?: readonly Column[];
  readonly command: string;
  readonly count: number | null;
};

const decode = (value: Uint8Array | null): string | null =>
  value === null ? null : new TextDecoder().decode(value);

/** `INSERT 3`, as psql has it but for the oid. */
function tagOf({ command, count }: RawResult): string {
  return count === null || count === undefined ? command : `${command} ${count}`;
}

/** RFC 4180; NULL is empty, and an empty text is quoted, as COPY has it. */
function csvCell(value: string | null): string {
  if (value === null) return "";
  return value === "" || /[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
}

// pg_type.dat
const BOOL = 16;
const NUMBERS: ReadonlySet<number> = new Set([21, 23, 26, 700, 701]);
const INT8 = 20;
const JSON_TYPES: ReadonlySet<number> = new Set([114, 3802]);

/** What JSON can say exactly is no text: booleans, numbers up to 2^53, JSON. */
function jsonValue(value: string | null, type: number): unknown {
  if (value === null) return null;
  if (type === BOOL) return value === "t";
  if (JSON_TYPES.has(type)) return JSON.parse(value);
  const isNumber = NUMBERS.has(type) || type === INT8;
  return isNumber && Number.isFinite(Number(value)) && (type !== INT8 || Number.isSafeInteger(Number(value)))
    ? Number(value)
    : value;
}

/** As psql tells it. */
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
