/** A file of a backup, as its source hands it out. */
export interface SourceFile {
  /** Relative to the data directory, with tablespaces below `pg_tblspc`. */
  readonly name: string;
  readonly size: number;
  /** Its content. It must be read to the end before the next file is asked for. */
  readonly content: AsyncIterable<Uint8Array>;
}

/** Returns a file that is in memory. */
export function fileOfBytes(name: string, bytes: Uint8Array): SourceFile {
  return { name, size: bytes.length, content: once(bytes) };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  if (bytes.length > 0) yield bytes;
}
