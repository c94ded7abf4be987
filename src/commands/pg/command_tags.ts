/**
 * Reads the command tags in what PostgreSQL sends. The `postgres` package keeps only the last tag
 * of adjacent statements that return no rows.
 */

/** A statement that was executed. */
export interface Completed {
  /** As psql prints it: `INSERT 3`, `CREATE TABLE`. */
  readonly tag: string;
  /** Whether it returned rows, even if none. */
  readonly hasRows: boolean;
}

// Type and length: protocol-message-formats in PostgreSQL's documentation.
const HEADER_BYTES = 5;
const COMMAND_COMPLETE = 0x43;
const ROW_DESCRIPTION = 0x54;

export class CommandTags {
  readonly completed: Completed[] = [];
  readonly #header = new Uint8Array(HEADER_BYTES);
  #headerBytes = 0;
  #bodyBytesLeft = 0;
  #tag: number[] = [];
  #hasRows = false;

  /** Takes the next bytes of the connection, from its beginning on. */
  add(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#headerBytes < HEADER_BYTES) this.#header[this.#headerBytes++] = chunk[at++];
      if (this.#headerBytes < HEADER_BYTES) continue;
      if (this.#bodyBytesLeft === 0) this.#startBody();
      const end = Math.min(chunk.length, at + this.#bodyBytesLeft);
      if (this.#header[0] === COMMAND_COMPLETE) this.#tag.push(...chunk.subarray(at, end));
      this.#bodyBytesLeft -= end - at;
      at = end;
      if (this.#bodyBytesLeft === 0) this.#endBody();
    }
  }

  #startBody(): void {
    // The length counts itself.
    this.#bodyBytesLeft = new DataView(this.#header.buffer).getUint32(1) - 4;
  }

  #endBody(): void {
    this.#headerBytes = 0;
    if (this.#header[0] === ROW_DESCRIPTION) this.#hasRows = true;
    if (this.#header[0] !== COMMAND_COMPLETE) return;
    // A null byte ends it. An INSERT's tag has an OID before the count, which has been 0 for years.
    const tag = String.fromCharCode(...this.#tag.slice(0, -1)).replace(/^INSERT 0 /, "INSERT ");
    this.completed.push({ tag, hasRows: this.#hasRows });
    this.#tag = [];
    this.#hasRows = false;
  }
}
