/** What a supervisor does with a compute that is up: watches it, and ends it. */
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

/** A compute that accepts connections and whose WAL, if it writes, the page server receives. */
export interface RunningCompute {
  readonly address: HostPort;
  /** A fast stop waits until nothing would be lost; an immediate one does not. */
  stop(mode: StopMode): Promise<void>;
  /** Has a fast stop wait no longer. */
  hurryStop(): void;
  /** Rejects when Postgres ends without having been asked to, with a PostgresCrashed when it is worth starting afresh. */
  readonly ended: Promise<void>;
}

export interface SuperviseOptions {
  readonly local: LocalPostgres;
  readonly pgdata: string;
  /** Starts Postgres again on its data directory, which it has left in order. */
  startAgain(): Promise<PostgresProcess>;
  readonly durability: Durability;
  readonly lazy: LazyStorage | undefined;
  readonly attachment: Attachment;
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
  const failed = durability.failed.catch((error: unknown) => error);
  // It may not go on, so nothing of it will become durable any more.
  failed.then(() => givenUp.abort());

  /** Ends what is left of Postgres, and all that was there for it: each part, even if another one's end fails. */
  const clear = async (keepsHotPages: boolean): Promise<void> => {
    // What is done last stands first.
    await using ending = new AsyncDisposableStack();
    ending.defer(() => attachment.close());
    if (lazy !== undefined) {
      ending.defer(async () => {
        await lazy.close();
        if (keepsHotPages) lazy.saveHotPages();
      });
    }
    ending.defer(() => watching);
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
    // Who looks at the past uses other pages than who goes on.
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

/** Why a compute has ended, or has not started, is more than what could not be cleaned up behind it. */
export function logCleanUp(log: Logger, failure: unknown): void {
  log.error(`could not clean up: ${errorMessage(failure)}`, { err: failure });
}

/** What has to be durable of a Postgres that has ended: all before its last checkpoint. undefined when it has not ended in order. */
async function endOfWal(pgdata: string): Promise<Lsn | undefined> {
  try {
    const control = parseControlFile(await readTenantFile(join(pgdata, CONTROL_FILE_PATH)));
    if (control.state !== DB_SHUTDOWNED) return undefined;
    const { checkPoint, xlog_seg_size } = control;
    const header = pageHeaderSize(checkPoint - pageOffset(checkPoint), xlog_seg_size);
    // Behind a page's header: what is before ends where the page begins.
    return (pageOffset(checkPoint) === header ? checkPoint - header : checkPoint) as Lsn;
  } catch {
    // Its files are gone with whoever has ended it.
    return undefined;
  }
}
