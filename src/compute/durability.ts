/**
 * Who makes a compute's commits durable, and what a start has to do for that: choose where Postgres
 * continues, configure it to wait, and have its WAL received.
 */
import { formatLsn, type Lsn } from "../common/lsn.ts";
import type { HostPort } from "../common/host_port.ts";
import { keepLsnLeased, type LsnLeaseOptions } from "./lazy/pages/lsn_lease.ts";
import { readOnlySettings } from "./postgres/postgres_conf.ts";
import type { PostgresProcess } from "./postgres/postgres_process.ts";
import type { CommitProgress } from "./proposer/commit_progress.ts";

/** A Postgres that accepts connections. */
export interface LocalPostgres {
  readonly address: HostPort;
  /** The role with which a walsender accepts us. */
  readonly role: string;
  readonly process: PostgresProcess;
}

export interface Durability {
  /** For its command line, which overrides all configuration files. */
  readonly settings: Readonly<Record<string, string>>;
  /** The slot that whoever makes commits durable has at Postgres; null for nobody. */
  readonly slot: string | null;
  /** Rejects when this compute must not continue; never resolves. */
  readonly failed: Promise<never>;
  /**
   * Where Postgres starts; null: at the end of the page server's copy of the timeline. The first
   * step.
   */
  chooseStart(progress: (text: string) => void): Promise<Lsn | null>;
  /** Resolves when commits can become durable. The last step. */
  follow(local: LocalPostgres, signal: AbortSignal, progress: (text: string) => void): Promise<void>;
  /** How commits progress; null when nothing is written. Never fails. */
  progress(): Promise<CommitProgress | null>;
  /**
   * Everything below is durable, as the party that makes it so reports after Postgres has ended;
   * null when nothing is written.
   */
  durableLsn(): Promise<Lsn | null>;
  /**
   * Postgres has ended and will be started again: nobody is connected to it until they have
   * reconnected.
   */
  postgresEnded(): void;
  /** After Postgres has stopped, or when it could not be started. */
  stop(): Promise<void>;
}

/** Nothing is written, so nothing has to become durable. */
export class ReadOnlyPast implements Durability {
  readonly settings: Readonly<Record<string, string>>;
  readonly slot = null;
  readonly failed: Promise<never> = new Promise(() => {});
  readonly #lsn: Lsn;
  readonly #stopping = new AbortController();
  #leasing: Promise<void> | undefined;

  constructor(lsn: Lsn) {
    this.#lsn = lsn;
    this.settings = readOnlySettings(lsn);
  }

  /**
   * Keeps the LSN readable for a start afresh. Lazy storage, which goes on reading there, does so
   * itself.
   */
  keepReadable(lease: Omit<LsnLeaseOptions, "onLost">): void {
    const { log, lsn } = lease;
    const onLost = (error: Error): void =>
      log.warn(`a crash would be the end: ${formatLsn(lsn)} is not kept readable: ${error.message}`);
    this.#leasing = keepLsnLeased({ ...lease, onLost }, this.#stopping.signal);
  }

  chooseStart(): Promise<Lsn> {
    return Promise.resolve(this.#lsn);
  }

  async follow(): Promise<void> {}

  progress(): Promise<null> {
    return Promise.resolve(null);
  }

  durableLsn(): Promise<null> {
    return Promise.resolve(null);
  }

  postgresEnded(): void {}

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#leasing;
  }
}
