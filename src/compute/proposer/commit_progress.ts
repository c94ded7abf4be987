import type { Lsn } from "../../common/lsn.ts";

/** How far commits are durable, and what may keep them from getting further. */
export interface CommitProgress {
  /** What Postgres has written, as far as is known. */
  readonly writtenLsn: Lsn;
  readonly durableLsn: Lsn;
  /** How far parts of a record that has not ended are durable, where that is known: of a long one they show that nothing stands still. */
  readonly partsLsn?: Lsn;
  /** Whether a whole record is not durable. */
  readonly waits: boolean;
  /** Whether Postgres's WAL gets to whoever makes it durable. */
  readonly connected: boolean;
  /** Who that is. */
  readonly who: string;
  /** What is known to be wrong, as clauses. */
  readonly obstacles: readonly string[];
}
