/**
 * A read-only compute that follows its branch: a hot standby on the branch's pages, which gets
 * committed WAL from the safekeepers.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { errorMessage } from "../common/errors.ts";
import type { HostPort } from "../common/host_port.ts";
import { formatLsn, type Lsn } from "../common/lsn.ts";
import { sleep } from "../common/sleep.ts";
import type { PgUser } from "../pg_install/pg_user.ts";
import { identifySystem } from "../pgwire/replication.ts";
import { pgVersion } from "../postgres/versions/find_version.ts";
import type { Logger } from "../process/log.ts";
import { connectServer } from "../protocol/connect.ts";
import type { TimelineStatus } from "../protocol/management.ts";
import { COMPUTE_NAME, standbyConnInfo, timelineOptions } from "../protocol/wal_connection.ts";
import { type Durability, type LocalPostgres, NothingWritten } from "./durability.ts";
import type { ComputeIdentity } from "./postgres/postgres_conf.ts";
import { PostgresCrashed } from "./postgres/postgres_process.ts";
import { makeStandbyFiles, STANDBY_SIGNAL } from "./replica_files.ts";
import { copyAuthority, writePassfile } from "./libpq_files.ts";
import { findReplicaStart, type ReplicaStart } from "./replica_start.ts";

const LOOK_MS = 2_000;
const CONNECT_TIMEOUT_MS = 3_000;

/**
 * A replica that lacks WAL and has received none for this long is started afresh. It may have been
 * away while the safekeepers removed what it lacks.
 */
const STUCK_MS = 30_000;

/** How soon a replica leaves a safekeeper that has gone silent. */
const RECEIVER_TIMEOUT_MS = 10_000;
const RETRY_MS = 500;

export interface ReplicaOptions {
  readonly compute: ComputeIdentity;
  /** The branch's own Postgres, which is only needed at the start. */
  readonly primary: HostPort;
  /** The superuser's, there. */
  readonly password: string;
  readonly pgdata: string;
  readonly user: PgUser | undefined;
  /** The directory for its libpq's files, and the token that belongs into one of them. */
  readonly libpqDir: string;
  readonly tokenFile: string;
  /** The certificates by which it recognizes safekeepers on other machines. */
  readonly caFile: string;
  readonly log: Logger;
}

/** The durability of a replica: it writes nothing. */
export class Replica extends NothingWritten implements Durability {
  readonly failed: Promise<never>;
  readonly #options: ReplicaOptions;
  readonly #stopping = new AbortController();
  #fail!: (error: Error) => void;
  #start: ReplicaStart | undefined;
  #segmentSize = 0;
  /** Undefined when the safekeepers ask for no token. */
  #passfile: string | undefined;
  #caFile = "";
  #watching: Promise<void> = Promise.resolve();

  constructor(options: ReplicaOptions) {
    super();
    this.#options = options;
    this.failed = new Promise((_resolve, reject) => this.#fail = reject);
    this.failed.catch(() => {});
  }

  get settings(): Readonly<Record<string, string>> {
    const { tenant, timeline, walAcceptors } = this.#options.compute;
    const atLeast = Object.entries(this.#start!.settings).map(([name, value]) => [name, String(value)]);
    return {
      ...Object.fromEntries(atLeast),
      hot_standby: "on",
      primary_conninfo: standbyConnInfo(walAcceptors, tenant, timeline, {
        passfile: this.#passfile,
        caFile: this.#caFile,
      }),
      primary_slot_name: "",
      restore_command: "",
      recovery_target_timeline: "latest",
      wal_receiver_timeout: String(RECEIVER_TIMEOUT_MS),
      wal_retrieve_retry_interval: String(RETRY_MS),
      // Its WAL is the branch's, which others archive.
      archive_mode: "off",
      synchronous_standby_names: "",
    };
  }

  /** Where the WAL in the data directory has to begin. */
  get redoLsn(): Lsn {
    return this.#start!.redoLsn;
  }

  async chooseStart(known: TimelineStatus, progress: (text: string) => void): Promise<Lsn> {
    const { compute, libpqDir, tokenFile, caFile, user } = this.#options;
    this.#passfile = writePassfile(libpqDir, tokenFile, user);
    this.#caFile = copyAuthority(libpqDir, caFile, user);
    progress("waiting for a checkpoint of the branch's Postgres");
    this.#segmentSize = known.wal_segment_size;
    this.#start = await findReplicaStart(
      this.#options,
      compute,
      pgVersion(known.pg_version),
      this.#segmentSize,
    );
    return this.#start.lsn;
  }

  override prepareDataDirectory(): void {
    const { pgdata, user } = this.#options;
    makeStandbyFiles(pgdata, this.#start!, this.#segmentSize, user);
  }

  follow(local: LocalPostgres): Promise<void> {
    this.#watching = this.#watch(local);
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#watching;
  }

  /** Has the replica started afresh when it can't follow any more. */
  async #watch(local: LocalPostgres): Promise<void> {
    const { signal } = this.#stopping;
    let received: Lsn | undefined;
    let since = Date.now();
    for (;;) {
      await sleep(LOOK_MS, signal);
      if (signal.aborted) return;
      if (!existsSync(join(this.#options.pgdata, STANDBY_SIGNAL))) {
        return this.#startAfresh("somebody has promoted this replica, and it must not write");
      }
      try {
        const now = await this.#receivedLsn(local);
        const committed = await this.#committedLsn();
        if (now !== received || committed === undefined || committed <= now) since = Date.now();
        received = now;
        if (Date.now() - since > STUCK_MS) {
          return this.#startAfresh(
            `it gets no WAL from ${formatLsn(now)} on, and the safekeepers are at ${formatLsn(committed!)}`,
          );
        }
      } catch (error) {
        if (signal.aborted) return;
        since = Date.now();
        this.#options.log.info(`how far this replica is, is not known: ${errorMessage(error)}`);
      }
    }
  }

  #startAfresh(why: string): void {
    this.#fail(new PostgresCrashed("unavailable", why));
  }

  async #receivedLsn({ connect }: LocalPostgres): Promise<Lsn> {
    await using client = await connect({
      applicationName: COMPUTE_NAME,
      replication: true,
      signal: this.#stopping.signal,
    });
    return (await identifySystem(client)).xlogpos;
  }

  /** Returns undefined when no safekeeper answers. */
  async #committedLsn(): Promise<Lsn | undefined> {
    const { tenant, timeline, walAcceptors } = this.#options.compute;
    const answers = await Promise.allSettled(walAcceptors.map(async (address) => {
      await using client = await connectServer("safekeeper", address, {
        replication: true,
        applicationName: COMPUTE_NAME,
        options: timelineOptions(tenant, timeline),
        connectTimeoutMs: CONNECT_TIMEOUT_MS,
        signal: this.#stopping.signal,
      });
      return (await identifySystem(client)).xlogpos;
    }));
    const lsns = answers.flatMap((answer) => answer.status === "fulfilled" ? [answer.value] : []);
    return lsns.length === 0 ? undefined : Math.max(...lsns) as Lsn;
  }
}
