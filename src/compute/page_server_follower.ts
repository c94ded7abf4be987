import type postgres from "postgres";
import { errorMessage, ZenithError } from "../common/errors.ts";
import { formatHostPort } from "../common/host_port.ts";
import type { Logger } from "../process/log.ts";
import { sleep } from "../common/sleep.ts";
import { WAL_RECEIVER_NAME } from "../protocol/wal_connection.ts";
import type { Durability, LocalPostgres } from "./durability.ts";
import { assertSameSafekeepers, callMeMaybe, fetchTimelineStatus } from "./page_server_link.ts";
import type { ComputeIdentity } from "./postgres/postgres_conf.ts";
import { pauseWhileRunning } from "./postgres/postgres_process.ts";

/** The page server opens a replication connection: it is up in a second, or it will not be. */
const FOLLOW_TIMEOUT_MS = 30_000;
const FIRST_POLL_MS = 3;
const POLL_MS = 1_000;

/** The page server itself is Postgres's synchronous standby: what it has made durable is committed. */
export class PageServerFollower implements Durability {
  /** `postgresql.conf` names the page server; whoever wants to may name others too. */
  readonly settings: Readonly<Record<string, string>> = {};
  readonly failed: Promise<never> = new Promise(() => {});
  readonly #compute: ComputeIdentity;
  readonly #log: Logger;
  readonly #stopping = new AbortController();
  #watching: Promise<void> = Promise.resolve();

  constructor(compute: ComputeIdentity, log: Logger) {
    this.#compute = compute;
    this.#log = log;
  }

  async chooseStart(): Promise<null> {
    assertSameSafekeepers(this.#compute, await fetchTimelineStatus(this.#compute));
    return null;
  }

  async follow(local: LocalPostgres, signal: AbortSignal, progress: (text: string) => void): Promise<void> {
    await local.sql`SELECT pg_create_physical_replication_slot(${WAL_RECEIVER_NAME}, true)`;
    progress("waiting for the page server to follow");
    const deadline = Date.now() + FOLLOW_TIMEOUT_MS;
    let nextCall = 0;
    while (!await isFollowed(local.sql)) {
      const now = Date.now();
      if (now >= nextCall) {
        await callMeMaybe(this.#compute, local.address);
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
    this.#watching = this.#watch(local);
  }

  stopping(): void {
    this.#stopping.abort();
  }

  async stop(): Promise<void> {
    this.stopping();
    await this.#watching;
  }

  /** Keeps the page server following: it forgets its computes when it is restarted. */
  async #watch({ sql, address, process }: LocalPostgres): Promise<void> {
    const stopping = this.#stopping.signal;
    let followed = true;
    for (;;) {
      await sleep(POLL_MS, stopping);
      if (!process.running || stopping.aborted) return;
      try {
        const follows = await isFollowed(sql);
        if (follows !== followed) {
          this.#log.info(
            follows ? "the page server follows again" : "the page server has stopped following",
          );
        }
        followed = follows;
        if (!follows) await callMeMaybe(this.#compute, address);
      } catch (error) {
        if (!stopping.aborted) {
          this.#log.warn(`could not get the page server to follow: ${errorMessage(error)}`);
        }
      }
    }
  }
}

async function isFollowed(sql: postgres.Sql): Promise<boolean> {
  const rows = await sql`
    SELECT 1 FROM pg_stat_replication
    WHERE application_name = ${WAL_RECEIVER_NAME} AND state IN ('catchup', 'streaming')`;
  return rows.length > 0;
}
