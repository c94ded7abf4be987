/** One way to talk SQL in tests, to Postgres and to the page server alike. */
import postgres from "postgres";
import type { HostPort } from "../../src/common/host_port.ts";

export interface ConnectOptions {
  /** false opens a transaction that stays open until `commit` or `rollback`. */
  readonly autocommit?: boolean;
  readonly database?: string;
  readonly user?: string;
  readonly password?: string;
}

export type Row = Record<string, unknown>;

/** One session. Numbers of eight bytes come as text, JSON parsed, the rest as the `postgres` package makes it. */
export class Connection implements AsyncDisposable {
  /** A pool of one: the session. */
  readonly #sql: postgres.Sql;
  #lost = false;

  private constructor(address: HostPort, options: ConnectOptions) {
    this.#sql = postgres({
      host: address.host,
      port: address.port,
      user: options.user ?? "zenith_admin",
      database: options.database ?? "postgres",
      password: options.password ?? "",
      max: 1,
      fetch_types: false,
      // A Postgres whose page server is away answers when that is back.
      connect_timeout: 60,
      idle_timeout: 0,
      max_lifetime: null,
      connection: { application_name: "zenith_test" },
      onnotice: () => {},
      onclose: () => {
        this.#lost = true;
      },
    });
  }

  /** @param hello a statement that proves that the session is there; the page server knows no SELECT */
  static async open(
    address: HostPort,
    options: ConnectOptions = {},
    hello = "SELECT 1",
  ): Promise<Connection> {
    const connection = new Connection(address, options);
    try {
      await connection.query(hello);
      if (options.autocommit === false) await connection.query("BEGIN");
      return connection;
    } catch (error) {
      await connection.close();
      throw error;
    }
  }

  /** As `zenith uri` and what else prints a connection string has it. */
  static openUri(uri: string): Promise<Connection> {
    const { hostname, port, username, password, pathname } = new URL(uri);
    const options = { user: username, password, database: pathname.slice(1) };
    return Connection.open({ host: hostname, port: Number(port) }, options);
  }

  /** The rows of one statement, or of the last of several. */
  async query(sql: string, params: readonly unknown[] = []): Promise<Row[]> {
    // The package would open another session without a word; what was set or held in this one would be gone.
    if (this.#lost) throw new Error("the session is lost");
    const parameters = params as postgres.ParameterOrJSON<never>[];
    return [...await this.#sql.unsafe<Row[]>(sql, parameters)];
  }

  /** The first column of the first row. */
  async value(sql: string, params: readonly unknown[] = []): Promise<unknown> {
    const [row] = await this.query(sql, params);
    return row === undefined ? undefined : Object.values(row)[0];
  }

  /** What a command of Zenith's answers: JSON, in a column of the type json or text. */
  async json(command: string): Promise<unknown> {
    const value = await this.value(command);
    return typeof value === "string" ? JSON.parse(value) : value;
  }

  async commit(): Promise<void> {
    await this.query("COMMIT");
  }

  async rollback(): Promise<void> {
    await this.query("ROLLBACK");
  }

  async close(): Promise<void> {
    await this.#sql.end({ timeout: 1 });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
