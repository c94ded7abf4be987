/** How far a compute's commits are durable. */
import type { Lsn } from "../../common/lsn.ts";

/** How far commits are durable, and what may keep them from getting further. */
export interface CommitProgress {
  /** Everything below has been written by Postgres, as far as is known. */
  readonly writtenLsn: Lsn;
  readonly durableLsn: Lsn;
  /**
   * Everything below is durable, counting parts of an unfinished record. It shows the progress of a
   * long record. Undefined where it is not known.
   */
  readonly partsLsn?: Lsn;
  /** Whether there is a whole record that is not durable yet. */
  readonly waits: boolean;
  /** Whether Postgres's WAL reaches the party that makes it durable. */
  readonly connected: boolean;
  /** The party that makes it durable. */
  readonly who: string;
  /** The known problems, as clauses. */
  readonly obstacles: readonly string[];
}
