/** Watches a running compute, and ends it. */
import { errorMessage } from "../common/errors.ts";
import type { HostPort } from "../common/host_port.ts";
import type { Lsn } from "../common/lsn.ts";
import { DB_SHUTDOWNED } from "../postgres/control_file.ts";
import { pageHeaderSize, pageOffset } from "../postgres/wal/page_header.ts";
import type { Logger } from "../process/log.ts";
import type { Attachment } from "./attachment.ts";
import { watchCommits } from "./commit_watch.ts";
import { type Durability, type LocalPostgres, ReadOnlyPast } from "./durability.ts";
import type { LazyStorage } from "./lazy/lazy_storage.ts";
import { stopInOrder } from "./orderly_stop.ts";
import type { Conditions } from "./postgres/conditions.ts";
import type { PostgresProcess } from "./postgres/postgres_process.ts";
import { readControlFile } from "./postgres/tenant_file.ts";

export type StopMode = "fast" | "immediate";

/** A compute that accepts connections. If it writes, the page server receives its WAL. */
export interface RunningCompute {
  readonly address: HostPort;
  /**
   * Stops the compute. A fast stop waits until nothing would be lost; an immediate one does not.
   */
  stop(mode: StopMode): Promise<void>;
  /** Makes a fast stop give up its wait. */
  hurryStop(): void;
  /**
   * Rejects when Postgres ends without being asked to. The error is a PostgresCrashed when the
   * compute should be started afresh.
   */
  readonly ended: Promise<void>;
}

export interface SuperviseOptions {
  readonly local: LocalPostgres;
  readonly pgdata: string;
  /** Removes what a Postgres that has ended left outside its data directory. */
  removeLeft(): void;
  /** Makes sure that no later start makes WAL durable that is not durable yet. */
  giveUpLeftWal(): void;
  /** Starts Postgres again on its data directory, after a clean shutdown. */
  startAgain(): Promise<PostgresProcess>;
  readonly durability: Durability;
  readonly lazy: LazyStorage | undefined;
  readonly attachment: Attachment;
  /** Reports changes of its settings and slots to the page server until the signal is aborted. */
  followChanges(signal: AbortSignal): Promise<void>;
  readonly conditions: Conditions;
  readonly log: Logger;
}

export function supervise(options: SuperviseOptions): RunningCompute {
  const { local, durability, lazy, attachment, conditions, log } = options;
  let postgres = local.process;
  let stopping: Promise<void> | undefined;
  const givenUp = new AbortController();
  const watch = new AbortController();
  const watching = watchCommits({ durability, conditions, log }, watch.signal);
  const following = options.followChanges(watch.signal);
  const failed = durability.failed.catch((error: unknown) => error);
  // The compute must not continue, so no more of its WAL will become durable.
  failed.then(() => givenUp.abort());

  /**
   * Ends what is left of Postgres, and everything that served it. Ends each part even if ending
   * another one fails.
   */
  const clear = async (keepsHotPages: boolean): Promise<void> => {
    // Deferred calls run in reverse order, so the last step comes first.
    await using ending = new AsyncDisposableStack();
    ending.defer(() => attachment.close());
    if (lazy !== undefined) {
      ending.defer(async () => {
        await lazy.close();
        if (keepsHotPages) lazy.saveHotPages();
      });
    }
    ending.defer(() => options.removeLeft());
    ending.defer(() => watching);
    ending.defer(() => following);
    ending.defer(() => durability.stop());
    ending.defer(() => watch.abort());
    ending.defer(() => postgres.endChildren(() => lazy?.giveUpReads()));
    ending.defer(() => postgres.end());
  };
  const endedByItself = Promise.race([postgres.ended, failed]).then(async (error) => {
    if (stopping !== undefined) return;
    await clear(false).catch((failure: unknown) => logCleanUp(log, failure));
    throw error;
  });
  const stop = async (): Promise<void> => {
    const ended = stopInOrder({
      postgres,
      startAgain: async () => postgres = await options.startAgain(),
      endOfWal: () => endOfWal(options.pgdata),
      durability,
      conditions,
      log,
      givenUp: givenUp.signal,
    });
    // Leave nothing behind, even if the stop failed.
    const inOrder = await ended.then(() => true, () => false);
    // Don't save the hot pages of a compute that reads the past: a compute at the branch's end uses
    // other pages.
    await clear(inOrder && !(durability instanceof ReadOnlyPast));
    // After a stop in order, all is durable. The WAL that stays says so to the next start.
    if (!inOrder || givenUp.signal.aborted) options.giveUpLeftWal();
    await ended;
  };
  return {
    address: local.address,
    // When the lazy files fail, this process exits at once. That ends the mount, and Postgres with
    // it.
    ended: lazy === undefined ? endedByItself : Promise.race([endedByItself, lazy.failed]),
    stop(mode) {
      if (mode === "immediate") givenUp.abort();
      stopping ??= stop();
      return stopping;
    },
    hurryStop() {
      if (stopping !== undefined) givenUp.abort();
    },
  };
}

/**
 * Logs a failed clean-up instead of throwing it: why a compute has ended, or has not started,
 * matters more.
 */
export function logCleanUp(log: Logger, failure: unknown): void {
  log.error(`could not clean up: ${errorMessage(failure)}`, { err: failure });
}

/**
 * Returns up to where a stopped Postgres's WAL has to be durable: everything before its last
 * checkpoint. Undefined when it has not shut down cleanly.
 */
async function endOfWal(pgdata: string): Promise<Lsn | undefined> {
  try {
    const control = await readControlFile(pgdata);
    if (control.state !== DB_SHUTDOWNED) return undefined;
    const { checkPoint, xlog_seg_size } = control;
    const header = pageHeaderSize(checkPoint - pageOffset(checkPoint), xlog_seg_size);
    // If the checkpoint follows a page's header, the WAL before it ends where the page begins.
    return (pageOffset(checkPoint) === header ? checkPoint - header : checkPoint) as Lsn;
  } catch {
    // Whoever ended Postgres has removed its files.
    return undefined;
  }
}
