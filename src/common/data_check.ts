/** The result of checking data at rest, for `zenith fsck`. */
/** What a check of a server's files found in one directory. */
export interface DataCheck {
  readonly path: string;
  /**
   * For a page server's timeline, what its layers hold; null for other directories, or when that
   * can't be read.
   */
  readonly counts: {
    readonly layers: number;
    readonly keys: number;
    readonly versions: number;
    readonly bytes: number;
  } | null;
  /** For a timeline, how much of its WAL was read; null for other directories. */
  readonly walBytes: number | null;
  /** What is wrong and what to do about it, one sentence each. */
  readonly problems: readonly string[];
  /** What a crash left and the next start removes: nothing is wrong with it. */
  readonly strays: readonly string[];
}
