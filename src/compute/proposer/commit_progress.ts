/** How far a compute's commits are durable. */
import type { Lsn } from "../../common/lsn.ts";

/** How far commits are durable, and what may keep them from getting further. */
export interface CommitProgress {
  /** What Postgres has written, as far as is known. */
  readonly writtenLsn: Lsn;
  readonly durableLsn: Lsn;
  /**
   * How far parts of an unfinished record are durable, where that is known: with a long record they
   * show that there is progress.
   */
  readonly partsLsn?: Lsn;
  /** Whether a whole record is not durable yet. */
  readonly waits: boolean;
  /** Whether Postgres's WAL reaches the party that makes it durable. */
  readonly connected: boolean;
  /** Which party that is. */
  readonly who: string;
  /** What is known to be wrong, as clauses. */
  readonly obstacles: readonly string[];
}
