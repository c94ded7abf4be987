/** Receives the local Postgres's WAL, as its synchronous standby. */
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { noteShortLived } from "../../common/garbage.ts";
import type { Logger } from "../../process/log.ts";
import { formatLsn, INVALID_LSN, type Lsn } from "../../common/lsn.ts";
import { sleep } from "../../common/sleep.ts";
import type { PgClient } from "../../pgwire/client.ts";
import {
  createPhysicalSlot,
  identifySystem,
  type ReplicationStream,
  startReplication,
} from "../../pgwire/replication.ts";
import { WAL_PROPOSER_SLOT } from "../../protocol/wal_connection.ts";
import type { ConnectLocally } from "../postgres/private_socket.ts";

/** The proposer's application_name, for synchronous_standby_names. */
export const WAL_PROPOSER_NAME = "walproposer";

const RECONNECT_MS = 200;

export interface WalSourceOptions {
  /** Connects to the local Postgres. */
  readonly connect: ConnectLocally;
  /** The system identifier from pg_control. WAL of another Postgres is refused. */
  readonly systemId: bigint;
  /** The LSN that is confirmed from the start. */
  readonly confirmedLsn: Lsn;
  /** Returns where a new connection must continue. */
  nextLsn(): Lsn;
  /**
   * Receives the WAL at `lsn`: `bytes[off, off + len)`, which are overwritten after the call. An
   * exception ends the connection.
   */
  onWal(lsn: Lsn, bytes: Uint8Array, off: number, len: number): void;
  readonly logger: Logger;
}

/**
 * Postgres as the proposer sees it: it sends its WAL as to a synchronous standby. The connection is
 * made again whenever it is lost.
 */
export class WalSource {
  readonly #options: WalSourceOptions;
  readonly #stopping = new AbortController();
  #confirmedLsn: Lsn;
  #client: PgClient | undefined;
  #stream: ReplicationStream | undefined;
  #paused = false;
  #problem = "";
  #writtenLsn: Lsn = INVALID_LSN;
  #running: Promise<void> = Promise.resolve();

  constructor(options: WalSourceOptions) {
    this.#options = options;
    this.#confirmedLsn = options.confirmedLsn;
  }

  /**
   * Resolves when the first connection streams.
   *
   * @throws {ZenithError} the error of that connection; `conflict` for another Postgres
   */
  async start(): Promise<void> {
    const { ended } = await this.#connect();
    this.#running = this.#keepStreaming(ended);
  }

  /** Ends the connection for good. Nothing is received after the call. */
  async stop(): Promise<void> {
    this.#stopping.abort(new ZenithError("unavailable", "the proposer was stopped"));
    this.#client?.destroy();
    await this.#running;
  }

  /** Tells Postgres that everything below `lsn` is durable, so that it may acknowledge commits. */
  confirm(lsn: Lsn): void {
    this.#confirmedLsn = lsn;
    this.#stream?.standbyStatusUpdate(lsn, lsn, lsn);
  }

  /** Whether Postgres's WAL is arriving. */
  get streaming(): boolean {
    return this.#stream !== undefined;
  }

  /** Why Postgres's WAL is not arriving. Empty while it is. */
  get problem(): string {
    return this.#problem;
  }

  /** The end of the WAL that Postgres has written, according to its last report. */
  get writtenLsn(): Lsn {
    return this.#writtenLsn;
  }

  /** Whether Postgres is held back. */
  get paused(): boolean {
    return this.#paused;
  }

  /**
   * Holds Postgres back: its WAL stays with it until {@link resume}, or until a new connection is
   * made.
   */
  pause(): void {
    this.#paused = true;
    this.#stream?.copy.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#stream?.copy.resume();
  }

  async #keepStreaming(first: Promise<void>): Promise<void> {
    const { signal } = this.#stopping;
    let running = first;
    for (;;) {
      try {
        await running;
      } catch (error) {
        if (signal.aborted) return;
        if (errorMessage(error) !== this.#problem) {
          this.#options.logger.warn(`WAL from Postgres stops: ${errorMessage(error)}`);
        }
        this.#problem = errorMessage(error);
      }
      await sleep(RECONNECT_MS, signal);
      if (signal.aborted) return;
      running = this.#connect().then(({ ended }) => ended);
    }
  }

  /**
   * Notes Postgres's position. A keepalive tells what was sent, IDENTIFY_SYSTEM what was written.
   */
  #note(lsn: Lsn): void {
    if (lsn > this.#writtenLsn) this.#writtenLsn = lsn;
  }

  /** Resolves when WAL streams. */
  async #connect(): Promise<{ ended: Promise<void> }> {
    const { connect, systemId, logger, onWal } = this.#options;
    const { signal } = this.#stopping;
    const client = await connect({ applicationName: WAL_PROPOSER_NAME, replication: true, signal });
    this.#client = client;
    try {
      const system = await identifySystem(client);
      if (system.systemId !== String(systemId)) {
        throw new ZenithError(
          "conflict",
          `Postgres is system ${system.systemId}, the timeline belongs to ${systemId}`,
        );
      }
      this.#note(system.xlogpos);
      await createPhysicalSlot(client, WAL_PROPOSER_SLOT);
      const startLsn = this.#options.nextLsn();
      const stream = await startReplication(client, { slot: WAL_PROPOSER_SLOT, startLsn });
      this.#stream = stream;
      this.#problem = "";
      this.#paused = false;
      logger.info("streaming WAL from Postgres", { lsn: formatLsn(startLsn) });
      const ended = stream.run({
        onWal: (lsn, bytes, off, len) => {
          if (signal.aborted) return;
          onWal(lsn, bytes, off, len);
          noteShortLived(len);
        },
        onKeepalive: (endLsn, replyRequested) => {
          this.#note(endLsn);
          if (replyRequested) this.confirm(this.#confirmedLsn);
        },
      }).finally(() => {
        this.#stream = undefined;
        client.destroy();
      });
      return { ended };
    } catch (error) {
      client.destroy();
      throw error;
    }
  }
}
