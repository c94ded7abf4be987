/**
 * Who makes a compute's commits durable, and what a start has to do for that: choose where Postgres goes on, configure it
 * to wait, and get its WAL followed.
 */
import type postgres from "postgres";
import type { HostPort } from "../common/host_port.ts";
import type { Lsn } from "../common/lsn.ts";
import { readOnlySettings } from "./postgres/postgres_conf.ts";
import type { PostgresProcess } from "./postgres/postgres_process.ts";

/** A Postgres that accepts connections. */
export interface LocalPostgres {
  readonly sql: postgres.Sql;
  readonly address: HostPort;
  readonly process: PostgresProcess;
}

export interface Durability {
  /** For its command line, where they win over all configuration files. */
  readonly settings: Readonly<Record<string, string>>;
  /** Rejects when this compute may not go on; never resolves. */
  readonly failed: Promise<never>;
  /** Where Postgres starts; null: where the page server's copy of the timeline ends. The first step. */
  chooseStart(progress: (text: string) => void): Promise<Lsn | null>;
  /** Resolves when commits can become durable. The last step. */
  follow(local: LocalPostgres, signal: AbortSignal, progress: (text: string) => void): Promise<void>;
  /** Postgres is about to be stopped; it may wait for its last WAL to be followed. */
  stopping(): void;
  /** Once Postgres has stopped, and when it could not be started. */
  stop(): Promise<void>;
}

/** Nothing is written, so nothing has to be kept. */
export class ReadOnlyPast implements Durability {
  readonly settings: Readonly<Record<string, string>>;
  readonly failed: Promise<never> = new Promise(() => {});
  readonly #lsn: Lsn;

  constructor(lsn: Lsn) {
    this.#lsn = lsn;
    this.settings = readOnlySettings(lsn);
  }

  chooseStart(): Promise<Lsn> {
    return Promise.resolve(this.#lsn);
  }

  async follow(): Promise<void> {}

  stopping(): void {}

  async stop(): Promise<void> {}
}
