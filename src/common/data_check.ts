/** The result of checking data at rest, for `zenith fsck`. */
/** What a check of a server's files found in one directory. */
export interface DataCheck {
  readonly path: string;
  /**
   * What the layers of a page server's timeline hold. Null for other directories, or when it can't
   * be read.
   */
  readonly counts: {
    readonly layers: number;
    readonly keys: number;
    readonly versions: number;
    readonly bytes: number;
  } | null;
  /** How much of a timeline's WAL was read. Null for other directories. */
  readonly walBytes: number | null;
  /** What is wrong and what to do about it, one sentence each. */
  readonly problems: readonly string[];
  /** Files that a crash left and that the next start removes. They are harmless. */
  readonly strays: readonly string[];
}
