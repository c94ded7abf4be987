/** Durability by a quorum of safekeepers. */
import { errorMessage, type ZenithError } from "../common/errors.ts";
import type { PgUser } from "../pg_install/pg_user.ts";
import type { Logger } from "../process/log.ts";
import { formatLsn, INVALID_LSN, type Lsn } from "../common/lsn.ts";
import type { Durability, LocalPostgres } from "./durability.ts";
import type { CommitProgress } from "./proposer/commit_progress.ts";
import {
  assertSameSafekeepers,
  callToSafekeeper,
  fetchTimelineSwitch,
  registerSafekeepers,
} from "./page_server_link.ts";
import type { ComputeIdentity } from "./postgres/postgres_conf.ts";
import { pgVersion } from "../postgres/versions/find_version.ts";
import type { TimelineStatus } from "../protocol/management.ts";
import { haveHistoryArchived } from "./postgres/wal_history.ts";
import type { LeftWal } from "./proposer/left_wal.ts";
import { type Election, WalProposer } from "./proposer/wal_proposer.ts";
import { WAL_PROPOSER_NAME } from "./proposer/wal_source.ts";
import { WAL_PROPOSER_SLOT } from "../protocol/wal_connection.ts";

/** The last term in which a compute asked for votes; null before the first. */
export interface LastTerm {
  value: number | null;
}

/**
 * Durability by a quorum of safekeepers. The supervisor acts for them as Postgres's synchronous
 * standby. The page server gets the WAL from them.
 */
export class SafekeeperQuorum implements Durability {
  readonly settings: Readonly<Record<string, string>> = { synchronous_standby_names: WAL_PROPOSER_NAME };
  readonly slot = WAL_PROPOSER_SLOT;
  readonly failed: Promise<never>;
  readonly #compute: ComputeIdentity;
  readonly #lastTerm: LastTerm;
  readonly #leftWal: LeftWal;
  readonly #pgdata: string;
  readonly #user: PgUser | undefined;
  readonly #log: Logger;
  #fail!: (error: ZenithError) => void;
  #proposer: WalProposer | undefined;
  #startLsn: Lsn = INVALID_LSN;
  #endLsn: Lsn = INVALID_LSN;
  /** Whether this start has gone over to another of PostgreSQL's timelines. */
  #hasSwitched = false;

  constructor(
    compute: ComputeIdentity,
    pgdata: string,
    user: PgUser | undefined,
    lastTerm: LastTerm,
    leftWal: LeftWal,
    log: Logger,
  ) {
    this.#pgdata = pgdata;
    this.#user = user;
    this.#compute = compute;
    this.#lastTerm = lastTerm;
    this.#leftWal = leftWal;
    this.#log = log;
    this.failed = new Promise((_resolve, reject) => this.#fail = reject);
    // It may fail before anybody waits for it.
    this.failed.catch(() => {});
  }

  async chooseStart(known: TimelineStatus, progress: (text: string) => void): Promise<Lsn> {
    const { tenant, timeline, walAcceptors } = this.#compute;
    assertSameSafekeepers(this.#compute, known);
    progress("waiting for a quorum of safekeepers");
    this.#proposer = new WalProposer({
      tenant,
      timeline,
      acceptors: walAcceptors,
      systemId: known.system_id,
      pgVersion: known.pg_version,
      segmentSize: known.wal_segment_size,
      timelineStartLsn: known.wal_position,
      lastTerm: this.#lastTerm.value,
      onFenced: (error) => this.#fail(error),
      logger: this.#log,
    });
    const election = await this.#elect(this.#proposer);
    // Register the safekeepers before they have WAL that nobody else has.
    await registerSafekeepers(this.#compute);
    this.#log.info("the quorum's WAL ends", { lsn: formatLsn(election.startLsn), term: election.term });
    const { lsn: endLsn, mayBeLost } = await this.#appendLeftWal(this.#proposer, election, known);
    this.#endLsn = endLsn;
    const startLsn = mayBeLost ? await this.#leaveTimeline(this.#proposer, endLsn, known, progress) : endLsn;
    this.#startLsn = startLsn;
    if (startLsn > known.wal_position) await this.#callPageServer(this.#proposer, startLsn);
    return startLsn;
  }

  get endLsn(): Lsn {
    return this.#endLsn;
  }

  async #elect(proposer: WalProposer): Promise<Election> {
    try {
      return await proposer.elect();
    } finally {
      this.#lastTerm.value = Math.max(this.#lastTerm.value ?? 0, proposer.term);
    }
  }

  /**
   * Makes what the Postgres before has written durable too, if this compute was the last to write:
   * standbys and subscribers may have it already.
   *
   * @returns where the log ends, and whether a Postgres may have sent others WAL that is not in it
   */
  async #appendLeftWal(
    proposer: WalProposer,
    { startLsn, term, lastTerm }: Election,
    known: TimelineStatus,
  ): Promise<{ readonly lsn: Lsn; readonly mayBeLost: boolean }> {
    const { pg_version: major, wal_segment_size: segmentSize } = known;
    const left = this.#leftWal.continues(this.#compute.timeline, lastTerm, term);
    if (left === "none") {
      // A branch of WAL that was on another timeline begins with one of its own too. So its
      // safekeepers know of all before.
      const isNew = lastTerm === 0 && !known.written && known.wal_timeline === 1;
      return { lsn: startLsn, mayBeLost: !isNew };
    }
    const mayBeLost = left === "part";
    const end = await this.#leftWal.end(pgVersion(major), segmentSize, startLsn);
    if (end === startLsn) return { lsn: startLsn, mayBeLost };
    await proposer.append(this.#leftWal.read(segmentSize, startLsn, end));
    this.#log.info("the Postgres before had written more, which is kept", { lsn: formatLsn(end) });
    return { lsn: end, mayBeLost };
  }

  /**
   * Makes the branch go over to the next of PostgreSQL's timelines, for good, before a Postgres
   * writes on it. Who has WAL that the branch lacks is then told so.
   *
   * @returns where Postgres continues
   */
  async #leaveTimeline(
    proposer: WalProposer,
    endLsn: Lsn,
    known: TimelineStatus,
    progress: (text: string) => void,
  ): Promise<Lsn> {
    if (known.wal_timeline === null) {
      this.#log.warn(
        "the page server can't go over to another timeline: a standby may be ahead of the branch",
      );
      return endLsn;
    }
    // None of it continues what comes now.
    this.#leftWal.remove();
    if (endLsn > known.wal_position) {
      progress("waiting until the page server has all WAL");
      await this.#callPageServer(proposer, endLsn);
    }
    const { lsn, bytes } = await fetchTimelineSwitch(this.#compute, endLsn);
    await proposer.append([{ lsn: endLsn, bytes: bytes.subarray(endLsn - lsn) }]);
    this.#hasSwitched = true;
    const startLsn = (lsn + bytes.length) as Lsn;
    this.#log.info("the WAL goes on on another timeline", { lsn: formatLsn(lsn) });
    return startLsn;
  }

  prepareDataDirectory(): void {
    if (this.#hasSwitched) haveHistoryArchived(this.#pgdata, this.#user);
  }

  beforeServing(): void {
    this.#leftWal.begin(this.#compute.timeline, this.#proposer!.term);
  }

  /**
   * Makes the page server read from a safekeeper now. Safekeepers call the page server themselves,
   * but only when WAL has waited there for a while. The basebackup at `startLsn` would wait for
   * that, and so would a new branch of this one after its first commit.
   */
  async #callPageServer(proposer: WalProposer, startLsn: Lsn): Promise<void> {
    const source = proposer.acceptors.find(({ flushLsn }) => flushLsn >= startLsn);
    if (source === undefined) return;
    try {
      await callToSafekeeper(this.#compute, source.address);
    } catch (error) {
      this.#log.warn(`could not have the page server read from a safekeeper: ${errorMessage(error)}`);
    }
  }

  async follow({ connect }: LocalPostgres): Promise<void> {
    const proposer = this.#proposer!;
    await proposer.start(connect);
    void this.#callPageServer(proposer, this.#startLsn);
  }

  progress(): Promise<CommitProgress> {
    return Promise.resolve(this.#proposer!.progress());
  }

  durableLsn(): Promise<Lsn> {
    return Promise.resolve(this.#proposer!.commitLsn);
  }

  /** Does nothing: the proposer notices that its connection ends. */
  postgresEnded(): void {}

  async stop(): Promise<void> {
    await this.#proposer?.stop();
  }
}
