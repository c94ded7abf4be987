/** Durability without safekeepers: the page server is the synchronous standby. */
import { errorMessage, ZenithError } from "../common/errors.ts";
import { formatHostPort } from "../common/host_port.ts";
import { INVALID_LSN, type Lsn } from "../common/lsn.ts";
import { sleep } from "../common/sleep.ts";
import { pageOffset } from "../postgres/wal/page_header.ts";
import type { Logger } from "../process/log.ts";
import type { TimelineStatus } from "../protocol/management.ts";
import { WAL_RECEIVER_NAME } from "../protocol/wal_connection.ts";
import type { Durability, LocalPostgres } from "./durability.ts";
import type { CommitProgress } from "./proposer/commit_progress.ts";
import { LocalWal } from "./local_wal.ts";
import {
  assertSameSafekeepers,
  callMeMaybe,
  fetchTimelineStatus,
  ReceiverWatch,
} from "./page_server_link.ts";
import type { ComputeIdentity } from "./postgres/postgres_conf.ts";
import { pauseWhileRunning } from "./postgres/postgres_process.ts";

/**
 * How long to wait for the page server's replication connection. It opens within a second or not at
 * all.
 */
const FOLLOW_TIMEOUT_MS = 30_000;
const FIRST_POLL_MS = 3;
const POLL_MS = 1_000;

/**
 * Durability by the page server, which is Postgres's synchronous standby: what it has made durable
 * is committed.
 */
export class PageServerFollower implements Durability {
  readonly endLsn = null;
  readonly settings: Readonly<Record<string, string>> = { synchronous_standby_names: WAL_RECEIVER_NAME };
  readonly slot = WAL_RECEIVER_NAME;
  readonly failed: Promise<never> = new Promise(() => {});
  readonly #compute: ComputeIdentity;
  readonly #log: Logger;
  readonly #stopping = new AbortController();
  readonly #receiver: ReceiverWatch;
  #localWal: LocalWal | undefined;
  #watching: Promise<void> = Promise.resolve();
  #follows = false;
  /** Why the page server does not receive, as far as is known. */
  #problem = "";
  #writtenLsn: Lsn = INVALID_LSN;
  #confirmedLsn: Lsn = INVALID_LSN;

  constructor(compute: ComputeIdentity, log: Logger) {
    this.#compute = compute;
    this.#log = log;
    this.#receiver = new ReceiverWatch(compute);
  }

  chooseStart(known: TimelineStatus): Promise<null> {
    assertSameSafekeepers(this.#compute, known);
    return Promise.resolve(null);
  }

  prepareDataDirectory(): void {}

  beforeServing(): void {}

  async follow(local: LocalPostgres, signal: AbortSignal, progress: (text: string) => void): Promise<void> {
    this.#localWal = new LocalWal(local, WAL_RECEIVER_NAME);
    await this.#localWal.makeSlot(this.#stopping.signal);
    progress("waiting for the page server to follow");
    const deadline = Date.now() + FOLLOW_TIMEOUT_MS;
    let nextCall = 0;
    while (!await this.#isFollowed(local)) {
      const now = Date.now();
      if (now >= nextCall) {
        await callMeMaybe(this.#compute, local);
        nextCall = now + POLL_MS;
      }
      if (now > deadline) {
        throw new ZenithError(
          "timeout",
          `the page server at ${
            formatHostPort(this.#compute.pageServer)
          } does not receive this compute's WAL`,
          { hint: "see its log; it connects back to the compute's port" },
        );
      }
      await pauseWhileRunning(local.process, FIRST_POLL_MS, signal);
    }
    this.#follows = true;
    this.#watching = this.#watch(local);
  }

  async progress(): Promise<CommitProgress> {
    try {
      const position = await this.#localWal!.position(this.#stopping.signal);
      this.#writtenLsn = position.writtenLsn;
      this.#confirmedLsn = position.confirmedLsn;
    } catch (error) {
      if (this.#follows && !this.#stopping.signal.aborted) this.#problem = errorMessage(error);
    }
    const pageServer = formatHostPort(this.#compute.pageServer);
    const why = this.#problem === "" ? "" : `: ${this.#problem}`;
    const lacking = this.#writtenLsn - this.#confirmedLsn;
    return {
      writtenLsn: this.#writtenLsn,
      durableLsn: this.#confirmedLsn,
      // WAL that ends at a page's end may end within a record. The page server confirms whole
      // records.
      waits: lacking > 0 && (!this.#follows || pageOffset(this.#writtenLsn) !== 0),
      connected: this.#follows,
      who: `the page server at ${pageServer}`,
      obstacles: this.#follows ? [] : [`the page server at ${pageServer} does not receive it${why}`],
    };
  }

  async durableLsn(): Promise<Lsn> {
    try {
      const { wal_position: position } = await fetchTimelineStatus(this.#compute);
      if (position > this.#confirmedLsn) this.#confirmedLsn = position;
    } catch {
      // The page server still has what it confirmed before.
    }
    return this.#confirmedLsn;
  }

  /** Forgets that WAL was being received, because that was the previous Postgres's. */
  postgresEnded(): void {
    this.#follows = false;
    this.#localWal?.close();
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new ZenithError("unavailable", "the compute is being stopped"));
    this.#localWal?.close();
    this.#receiver.close();
    await this.#watching;
  }

  /** Keeps the page server receiving. A page server forgets its computes when it restarts. */
  async #watch(local: LocalPostgres): Promise<void> {
    const stopping = this.#stopping.signal;
    for (;;) {
      await sleep(POLL_MS, stopping);
      if (stopping.aborted) return;
      try {
        const follows = await this.#isFollowed(local);
        if (follows !== this.#follows) {
          this.#log.info(
            follows ? "the page server follows again" : "the page server has stopped following",
          );
        }
        this.#follows = follows;
        if (!follows) await callMeMaybe(this.#compute, local);
      } catch (error) {
        if (stopping.aborted) return;
        this.#follows = false;
        if (errorMessage(error) !== this.#problem) {
          this.#log.warn(`could not get the page server to follow: ${errorMessage(error)}`);
        }
        this.#problem = errorMessage(error);
      }
    }
  }

  async #isFollowed(local: LocalPostgres): Promise<boolean> {
    const { streaming, error } = await this.#receiver.status(local, this.#stopping.signal);
    this.#problem = streaming ? "" : error ?? "";
    return streaming;
  }
}
