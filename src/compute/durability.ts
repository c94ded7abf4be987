/**
 * The interface of whatever makes a compute's commits durable. Its implementations decide where
 * Postgres continues, which settings make it wait, and how its WAL is received.
 */
import { formatLsn, type Lsn } from "../common/lsn.ts";
import type { HostPort } from "../common/host_port.ts";
import { keepLsnLeased, type LsnLeaseOptions } from "./lazy/pages/lsn_lease.ts";
import { readOnlySettings } from "./postgres/postgres_conf.ts";
import type { PostgresProcess } from "./postgres/postgres_process.ts";
import type { ConnectLocally } from "./postgres/private_socket.ts";
import type { CommitProgress } from "./proposer/commit_progress.ts";
import type { TimelineStatus } from "../protocol/management.ts";

/** A Postgres that accepts connections. */
export interface LocalPostgres {
  readonly address: HostPort;
  /** The role as which a walsender accepts our connections, and those of the page server. */
  readonly role: string;
  /** The role's password, for the page server, which connects by TCP. */
  readonly password: string;
  /** Connects as that role by the private socket. */
  readonly connect: ConnectLocally;
  readonly process: PostgresProcess;
}

export interface Durability {
  /** Settings for Postgres's command line, which override all configuration files. */
  readonly settings: Readonly<Record<string, string>>;
  /**
   * The name of the slot at Postgres that belongs to the party that makes commits durable. Null
   * when there is none.
   */
  readonly slot: string | null;
  /** Rejects when this compute must not continue. Never resolves. */
  readonly failed: Promise<never>;
  /**
   * The first step. Returns where Postgres starts; null means the end of the page server's copy of
   * the timeline.
   *
   * @param known what the page server says of the timeline
   */
  chooseStart(known: TimelineStatus, progress: (text: string) => void): Promise<Lsn | null>;
  /**
   * Where what was written before ends, after {@link chooseStart}. A start may add WAL of its own
   * after that. Null for the end of the page server's copy.
   */
  readonly endLsn: Lsn | null;
  /**
   * Called when the data directory has been fetched, before anything else writes to it.
   *
   * @throws {ZenithError} `io`
   */
  prepareDataDirectory(): void;
  /**
   * Called before a Postgres starts that others can reach. What another one has done in the data
   * directory until then counts for nothing if the start fails.
   *
   * @throws {ZenithError} `io`
   */
  beforeServing(): void;
  /** The last step. Resolves when commits can become durable. */
  follow(local: LocalPostgres, signal: AbortSignal, progress: (text: string) => void): Promise<void>;
  /** Returns how commits progress; null when nothing is written. Never fails. */
  progress(): Promise<CommitProgress | null>;
  /**
   * Returns the LSN below which everything is durable, as reported after Postgres has ended by the
   * party that makes it so. Null when nothing is written.
   */
  durableLsn(): Promise<Lsn | null>;
  /**
   * Tells that Postgres has ended and will be started again. Whoever was connected to it has to
   * reconnect.
   */
  postgresEnded(): void;
  /** Called after Postgres has stopped, or when it could not be started. */
  stop(): Promise<void>;
}

/** The part of a compute's durability that is the same for all that write nothing. */
export class NothingWritten {
  readonly slot = null;
  readonly endLsn = null;

  prepareDataDirectory(): void {}

  beforeServing(): void {}

  progress(): Promise<null> {
    return Promise.resolve(null);
  }

  durableLsn(): Promise<null> {
    return Promise.resolve(null);
  }

  postgresEnded(): void {}
}

/** The durability of a compute that looks at a moment of the past. */
export class ReadOnlyPast extends NothingWritten implements Durability {
  readonly settings: Readonly<Record<string, string>>;
  readonly failed: Promise<never> = new Promise(() => {});
  readonly #lsn: Lsn;
  readonly #stopping = new AbortController();
  #leasing: Promise<void> | undefined;

  constructor(lsn: Lsn) {
    super();
    this.#lsn = lsn;
    this.settings = readOnlySettings(lsn);
  }

  /**
   * Keeps the LSN readable, so that the compute can be started afresh. Lazy storage, which
   * continues to read there, does this itself.
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

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#leasing;
  }
}
