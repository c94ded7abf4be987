/** A file of a backup, as its source hands it out. */
export interface SourceFile {
  /** Relative to the data directory, with tablespaces below `pg_tblspc`. */
  readonly name: string;
  readonly size: number;
  /** Its content. It must be read to the end before the next file is asked for. */
  readonly content: AsyncIterable<Uint8Array>;
}
