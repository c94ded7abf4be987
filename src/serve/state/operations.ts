/** What was done over the API, and how it went: each change is an operation, with its progress. */
import { randomUUID } from "node:crypto";
import { errorMessage } from "../../common/errors.ts";
import type { TenantId } from "../../common/id.ts";
import type { Row, State } from "./state.ts";

export type OperationStatus = "running" | "finished" | "failed";

export interface KnownOperation {
  readonly id: string;
  /** Null for what belongs to no tenant. */
  readonly tenant: string | null;
  readonly action: string;
  readonly branch: string | null;
  readonly status: OperationStatus;
  /** What it is doing; null when it has not said. */
  readonly progress: string | null;
  readonly error: string | null;
  /** RFC 3339. */
  readonly createdAt: string;
  readonly updatedAt: string;
}

/** How many are kept. */
const KEPT = 10_000;

export class Operations {
  readonly #state: State;

  constructor(state: State) {
    this.#state = state;
    // Their process is gone. What they had begun is done or not, as the branch list shows.
    this.#state.run(
      "UPDATE operation SET status = 'failed', error = 'zenith serve ended meanwhile', updated_at = ? WHERE status = 'running'",
      now(),
    );
  }

  /** Runs `work` as an operation. @returns the operation's id at once, and what becomes of it */
  begin<T>(
    { tenant, action, branch = null }: { tenant: TenantId | null; action: string; branch?: string | null },
    work: (progress: (text: string) => void) => Promise<T>,
  ): { readonly id: string; readonly done: Promise<T> } {
    const id = randomUUID();
    this.#state.run(
      "INSERT INTO operation (id, tenant, action, branch, status, created_at, updated_at) VALUES (?, ?, ?, ?, 'running', ?, ?)",
      id,
      tenant,
      action,
      branch,
      now(),
      now(),
    );
    this.#state.run(
      "DELETE FROM operation WHERE rowid <= (SELECT max(rowid) FROM operation) - ? AND status <> 'running'",
      KEPT,
    );
    const progress = (text: string) => {
      this.#state.run("UPDATE operation SET progress = ?, updated_at = ? WHERE id = ?", text, now(), id);
    };
    return { id, done: this.#run(id, () => work(progress)) };
  }

  get(id: string): KnownOperation | undefined {
    const row = this.#state.row("SELECT * FROM operation WHERE id = ?", id);
    return row === undefined ? undefined : known(row);
  }

  /** Newest first. */
  list(tenant: TenantId | null, limit: number, before: string | undefined): KnownOperation[] {
    return this.#state.rows(
      `SELECT * FROM operation
       WHERE (?1 IS NULL OR tenant = ?1)
         AND (?2 IS NULL OR rowid < (SELECT rowid FROM operation WHERE id = ?2))
       ORDER BY rowid DESC LIMIT ?3`,
      tenant,
      before ?? null,
      limit,
    ).map(known);
  }

  async #run<T>(id: string, work: () => Promise<T>): Promise<T> {
    try {
      const result = await work();
      this.#end(id, "finished", null);
      return result;
    } catch (error) {
      this.#end(id, "failed", errorMessage(error));
      throw error;
    }
  }

  #end(id: string, status: OperationStatus, error: string | null): void {
    this.#state.run(
      "UPDATE operation SET status = ?, error = ?, updated_at = ? WHERE id = ?",
      status,
      error,
      now(),
      id,
    );
  }
}

function now(): string {
  return new Date().toISOString();
}

function known(row: Row): KnownOperation {
  const text = (key: string): string | null => row[key] === null ? null : String(row[key]);
  return {
    id: String(row["id"]),
    tenant: text("tenant"),
    action: String(row["action"]),
    branch: text("branch"),
    status: String(row["status"]) as OperationStatus,
    progress: text("progress"),
    error: text("error"),
    createdAt: String(row["created_at"]),
    updatedAt: String(row["updated_at"]),
  };
}
