/**
 * Stops Postgres so that nothing that it has written is lost, not even commits with
 * `synchronous_commit = off`, whose clients moved on long ago. The stop takes as long as that
 * needs, and reports what it waits for. Only an immediate stop gives up.
 */
import { formatLsn, type Lsn } from "../common/lsn.ts";
import { sleep } from "../common/sleep.ts";
import type { Logger } from "../process/log.ts";
import type { Durability } from "./durability.ts";
import type { Conditions } from "./postgres/conditions.ts";

/** The parts of a postmaster that an orderly stop needs. */
export interface StoppablePostgres {
  readonly running: boolean;
  /**
   * Tells Postgres to end its sessions, send its last WAL and exit. Resolves when it has, or when
   * `signal` is aborted.
   */
  shutDown(signal: AbortSignal): Promise<void>;
}

export interface OrderlyStopOptions {
  readonly postgres: StoppablePostgres;
  /**
   * Starts Postgres again on its data directory, after it has shut down cleanly without all of its
   * WAL having been received.
   */
  startAgain(): Promise<StoppablePostgres>;
  /** The position of its last checkpoint. Undefined when it has not shut down cleanly. */
  endOfWal(): Promise<Lsn | undefined>;
  readonly durability: Durability;
  readonly conditions: Conditions;
  readonly log: Logger;
  /** Aborted when the stop should no longer wait. */
  readonly givenUp: AbortSignal;
}

const POLL_MS = 200;
/** A stop that takes less time needs no explanation. */
const SAY_AFTER_MS = 1_000;
const CONDITION = "stop";
/** The beginning of the condition's text, which says what a stop waits for. */
export const STOPPING = "stopping: ";

/**
 * Resolves when Postgres has ended and all its WAL is durable, or when the wait was given up. In
 * that case Postgres may still run.
 */
export async function stopInOrder(options: OrderlyStopOptions): Promise<void> {
  const { durability, conditions, log, givenUp } = options;
  let { postgres } = options;
  const over = new AbortController();
  const saying = sayWhatItWaitsFor(options, AbortSignal.any([over.signal, givenUp]));
  try {
    for (let isFirst = true;; isFirst = false) {
      await untilConnected(postgres, durability, isFirst, givenUp);
      await postgres.shutDown(givenUp);
      if (givenUp.aborted) return;
      const end = await options.endOfWal();
      const durable = await durability.durableLsn();
      // The shutdown checkpoint itself need not be durable: it changes nothing.
      if (end === undefined || durable === null || durable >= end) return;
      log.warn("Postgres has ended before all its WAL was taken: it is started again for that", {
        end: formatLsn(end),
        durable: formatLsn(durable),
      });
      durability.postgresEnded();
      postgres = await options.startAgain();
    }
  } finally {
    over.abort();
    await saying;
    conditions.set(CONDITION, undefined);
  }
}

/**
 * Waits until the receiver of Postgres's WAL is connected. A Postgres that is shutting down accepts
 * no new connections.
 *
 * @param mayBeDone whether no receiver is needed if everything that is known to be written is
 *   durable; false for a Postgres that has ended with more
 */
async function untilConnected(
  postgres: StoppablePostgres,
  durability: Durability,
  mayBeDone: boolean,
  givenUp: AbortSignal,
): Promise<void> {
  while (!givenUp.aborted && postgres.running) {
    const progress = await durability.progress();
    if (progress === null || progress.connected) return;
    if (mayBeDone && progress.durableLsn >= progress.writtenLsn) return;
    await sleep(POLL_MS, givenUp);
  }
}

async function sayWhatItWaitsFor(
  { durability, conditions, log }: OrderlyStopOptions,
  signal: AbortSignal,
): Promise<void> {
  await sleep(SAY_AFTER_MS, signal);
  let told = "";
  while (!signal.aborted) {
    const progress = await durability.progress();
    if (progress === null || signal.aborted) return;
    const missing = Math.max(0, progress.writtenLsn - progress.durableLsn);
    const what = missing === 0
      ? "waits for Postgres to end"
      : `waits until ${progress.who} have the last ${missing} bytes of WAL`;
    const why = progress.obstacles.length === 0 ? "" : `: ${progress.obstacles.join("; ")}`;
    conditions.set(CONDITION, `${STOPPING}${what}${why}`, {
      hint:
        '"zenith pg stop -m immediate" gives up what was committed with synchronous_commit = off and is not durable',
      down: false,
    });
    if (why !== told) log.warn(`${STOPPING}${what}${why}`);
    told = why;
    await sleep(POLL_MS, signal);
  }
}
