/** Watches a compute that is up, and ends it. */
import { join } from "node:path";
import { errorMessage } from "../common/errors.ts";
import type { HostPort } from "../common/host_port.ts";
import type { Lsn } from "../common/lsn.ts";
import { CONTROL_FILE_PATH, DB_SHUTDOWNED, parseControlFile } from "../postgres/control_file.ts";
import { pageHeaderSize, pageOffset } from "../postgres/wal/page_header.ts";
import type { Logger } from "../process/log.ts";
import type { Attachment } from "./attachment.ts";
import { watchCommits } from "./commit_watch.ts";
import { type Durability, type LocalPostgres, ReadOnlyPast } from "./durability.ts";
import type { LazyStorage } from "./lazy/lazy_storage.ts";
import { stopInOrder } from "./orderly_stop.ts";
import type { Conditions } from "./postgres/conditions.ts";
import type { PostgresProcess } from "./postgres/postgres_process.ts";
import { readTenantFile } from "./postgres/tenant_file.ts";

export type StopMode = "fast" | "immediate";

/** A compute that accepts connections. If it writes, the page server receives its WAL. */
export interface RunningCompute {
  readonly address: HostPort;
  /** A fast stop waits until nothing would be lost; an immediate one does not. */
  stop(mode: StopMode): Promise<void>;
  /** Makes a fast stop wait no longer. */
  hurryStop(): void;
  /**
   * Rejects when Postgres ends without being asked to; with a PostgresCrashed when it is worth
   * starting afresh.
   */
  readonly ended: Promise<void>;
}

export interface SuperviseOptions {
  readonly local: LocalPostgres;
  readonly pgdata: string;
  /** Removes what a Postgres that has ended has left outside its data directory. */
  removeLeft(): void;
  /** Starts Postgres again on its data directory, after a clean shutdown. */
  startAgain(): Promise<PostgresProcess>;
  readonly durability: Durability;
  readonly lazy: LazyStorage | undefined;
  readonly attachment: Attachment;
  /** Tells the page server of changes of its settings and slots, until the signal is aborted. */
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
  // It must not continue, so nothing more of it will become durable.
  failed.then(() => givenUp.abort());

  /**
   * Ends what is left of Postgres and everything that served it: each part, even if ending another
   * one fails.
   */
  const clear = async (keepsHotPages: boolean): Promise<void> => {
    // The last step comes first.
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
    // Whatever it fails with, nothing is left behind.
    const inOrder = await ended.then(() => true, () => false);
    // Reading the past uses other pages than continuing.
    await clear(inOrder && !(durability instanceof ReadOnlyPast));
    await ended;
  };
  return {
    address: local.address,
    // When the files fail, this process ends at once: that ends the mount, and Postgres with it.
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
 * Why a compute has ended, or has not started, matters more than what could not be cleaned up after
 * it.
 */
export function logCleanUp(log: Logger, failure: unknown): void {
  log.error(`could not clean up: ${errorMessage(failure)}`, { err: failure });
}

/**
 * What has to be durable of a Postgres that has ended: everything before its last checkpoint.
 * undefined when it has not shut down cleanly.
 */
async function endOfWal(pgdata: string): Promise<Lsn | undefined> {
  try {
    const control = parseControlFile(await readTenantFile(join(pgdata, CONTROL_FILE_PATH)));
    if (control.state !== DB_SHUTDOWNED) return undefined;
    const { checkPoint, xlog_seg_size } = control;
    const header = pageHeaderSize(checkPoint - pageOffset(checkPoint), xlog_seg_size);
    // After a page's header: what comes before ends where the page begins.
    return (pageOffset(checkPoint) === header ? checkPoint - header : checkPoint) as Lsn;
  } catch {
    // Whoever ended it has removed its files.
    return undefined;
  }
}
