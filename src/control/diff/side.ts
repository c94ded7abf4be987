/** One side of a comparison: sessions whose settings make values read the same on both sides. */
import postgres from "postgres";
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { withPassword } from "../../compute/postgres/role_passwords.ts";
import type { ComputeInfo } from "../computes.ts";

/** How many rows to fetch at a time. */
const BATCH_ROWS = 1000;

/**
 * Settings that the text of a value or a plan depends on, which a database or a role may override.
 */
const SETTINGS: Readonly<Record<string, string>> = {
  application_name: "zenith branch diff",
  search_path: "pg_catalog",
  TimeZone: "UTC",
  DateStyle: "ISO, YMD",
  IntervalStyle: "postgres",
  bytea_output: "hex",
  extra_float_digits: "1",
  xmlbinary: "base64",
  row_security: "off",
  // Ranges of a table are read only by TID.
  enable_seqscan: "off",
  max_parallel_workers_per_gather: "0",
  jit: "off",
  statement_timeout: "0",
};

/** How many of a side's statements may run at once. What they read does not change. */
export const SESSIONS = 4;

export type Row = readonly (string | null)[];

export class Side implements AsyncDisposable {
  /** The side's point, as the user named it. */
  readonly label: string;
  /** Whether the compute fetches the pages that differ by itself. */
  readonly fetchesAhead: boolean;
  readonly #sql: postgres.Sql;
  readonly #database: string;

  constructor(label: string, { address, paths }: ComputeInfo, database: string, fetchesAhead = false) {
    this.label = label;
    this.fetchesAhead = fetchesAhead;
    this.#database = database;
    const { user, password } = withPassword(paths);
    this.#sql = postgres({
      host: address.host,
      port: address.port,
      user: user!,
      database,
      password: password!,
      max: SESSIONS,
      fetch_types: false,
      idle_timeout: 0,
      max_lifetime: null,
      connection: SETTINGS,
      onnotice: () => {},
    });
  }

  /** Returns all rows of a statement, as text. @throws {ZenithError} */
  async rows(text: string, params: readonly string[] = []): Promise<Row[]> {
    const rows: Row[] = [];
    for await (const row of this.stream(text, params)) rows.push(row);
    return rows;
  }

  /** Like {@link rows}, but a batch at a time. */
  async *stream(text: string, params: readonly string[] = []): AsyncGenerator<Row> {
    try {
      const query = this.#sql.unsafe(text, [...params]).raw();
      for await (const batch of query.cursor(BATCH_ROWS)) {
        for (const row of batch as unknown as (Uint8Array | null)[][]) yield row.map(decode);
      }
    } catch (error) {
      throw this.#failed(error);
    }
  }

  #failed(error: unknown): ZenithError {
    if (error instanceof ZenithError) return error;
    if (error instanceof postgres.PostgresError && error.code === INVALID_CATALOG_NAME) {
      return new ZenithError("not_found", `there is no database ${this.#database} at ${this.label}`, {
        hint: "name another with --db",
        cause: error,
      });
    }
    return new ZenithError("unavailable", `the Postgres at ${this.label}: ${errorMessage(error)}`, {
      cause: error,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sql.end({ timeout: 0 });
  }
}

const INVALID_CATALOG_NAME = "3D000";

const decode = (value: Uint8Array | null): string | null =>
  value === null ? null : new TextDecoder().decode(value);
