/**
 * What `zenith serve` remembers beside the page server's own data: the ids that branches have to
 * the outside, which computes it has woken, settings, passwords and operations. One SQLite file,
 * docs/formats/serve_db.md.
 */
import { chmodSync, existsSync } from "node:fs";
import { DatabaseSync, type SQLInputValue } from "node:sqlite";
import { ioError, ZenithError } from "../../common/errors.ts";

/** Only its owner may read the file: it has passwords. */
const MODE = 0o600;

const VERSION = 1;

const SCHEMA = `
  CREATE TABLE branch (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    timeline TEXT NOT NULL,
    id TEXT NOT NULL UNIQUE,
    endpoint TEXT NOT NULL UNIQUE,
    created_at TEXT NOT NULL,
    suspend_after_ms INTEGER,
    has_endpoint INTEGER NOT NULL DEFAULT 1,
    last_reset_at TEXT,
    PRIMARY KEY (tenant, name)
  ) STRICT;
  CREATE TABLE tenant (
    tenant TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    created_at TEXT NOT NULL,
    default_branch TEXT,
    allowed_ips TEXT NOT NULL DEFAULT '[]'
  ) STRICT;
  CREATE TABLE awake (
    tenant TEXT NOT NULL,
    compute TEXT NOT NULL,
    PRIMARY KEY (tenant, compute)
  ) STRICT;
  CREATE TABLE role_password (
    tenant TEXT NOT NULL,
    timeline TEXT NOT NULL,
    role TEXT NOT NULL,
    password TEXT NOT NULL,
    PRIMARY KEY (tenant, timeline, role)
  ) STRICT;
  CREATE TABLE operation (
    id TEXT PRIMARY KEY,
    tenant TEXT,
    action TEXT NOT NULL,
    branch TEXT,
    status TEXT NOT NULL,
    progress TEXT,
    error TEXT,
    result TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
  ) STRICT;
  CREATE INDEX operation_of_tenant ON operation (tenant, created_at);
  CREATE TABLE idempotency (
    caller TEXT NOT NULL,
    key TEXT NOT NULL,
    request TEXT NOT NULL,
    status INTEGER,
    body TEXT,
    created_at TEXT NOT NULL,
    PRIMARY KEY (caller, key)
  ) STRICT;
`;

export type Row = Readonly<Record<string, string | number | null>>;

export class State implements Disposable {
  readonly #db: DatabaseSync;

  /**
   * Opens the file, and makes it when it is not there.
   *
   * @param file its path; `:memory:` for tests
   * @throws {ZenithError} `io`; `corrupt_data` when it is another version's
   */
  constructor(file: string) {
    try {
      const isNew = file === ":memory:" || !existsSync(file);
      this.#db = new DatabaseSync(file);
      if (file !== ":memory:") chmodSync(file, MODE);
      this.#db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000");
      if (isNew || this.#version() === 0) {
        this.#db.exec(`BEGIN; ${SCHEMA}; PRAGMA user_version = ${VERSION}; COMMIT`);
      }
    } catch (error) {
      throw ioError("open", file, error);
    }
    const version = this.#version();
    if (version !== VERSION) {
      throw new ZenithError("corrupt_data", `${file} has version ${version}: this zenith knows ${VERSION}`, {
        hint: "run the zenith that wrote it",
      });
    }
  }

  #version(): number {
    return Number(Object.values(this.#db.prepare("PRAGMA user_version").get() ?? {})[0] ?? 0);
  }

  /** All rows of a query. */
  rows(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.#db.prepare(sql).all(...values) as unknown as Row[];
  }

  /** The first row of a query. */
  row(sql: string, ...values: SQLInputValue[]): Row | undefined {
    return this.rows(sql, ...values)[0];
  }

  /** Runs a statement. @returns how many rows it has changed */
  run(sql: string, ...values: SQLInputValue[]): number {
    return Number(this.#db.prepare(sql).run(...values).changes);
  }

  /** Runs `work`, all of it or nothing. */
  atOnce<T>(work: () => T): T {
    this.#db.exec("BEGIN IMMEDIATE");
    try {
      const result = work();
      this.#db.exec("COMMIT");
      return result;
    } catch (error) {
      this.#db.exec("ROLLBACK");
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#db.close();
  }
}
