/** Defines what a command handler sees of a client's connection. */
import { assert } from "../common/assert.ts";
import { ZenithError } from "../common/errors.ts";
import type { Column, Value } from "./column.ts";
import { CopyBoth, type CopyBothHost } from "./copy_both.ts";
import type { FrameWriter } from "./frame_writer.ts";
import { COPY_OUT_CHUNK_BYTES } from "./limits.ts";
import { COPY_DONE } from "./message_types.ts";
import {
  writeCommandComplete,
  writeCopyBothResponse,
  writeCopyOutResponse,
  writeDataRow,
  writeRowDescription,
} from "./server_messages.ts";
import { PgError, SQLSTATE_PROTOCOL_VIOLATION } from "./sqlstate.ts";

/**
 * Serves the commands of one kind of server. Every exception becomes an ErrorResponse: a
 * {@link ZenithError} with the SQLSTATE of its kind, anything else as an internal error. The
 * connection stays open.
 */
export interface ConnectionHandler {
  /** Runs before the client learns that it is connected. Throw to refuse the client. */
  startup?(session: Session): void | Promise<void>;

  /**
   * Returns the columns of the answer to `sql`, or null when it has none (COPY, or a tag alone).
   * Must not execute anything: clients of the extended protocol ask before they run a statement,
   * and sometimes without running it. Throws for a command that does not exist.
   */
  describe(session: Session, sql: string): readonly Column[] | null;

  /**
   * Runs one command. `sql` is the text as the client sent it, semicolons included. `params` are
   * the values of $1, $2, … in text form; it is empty with the simple protocol.
   */
  query(session: Session, sql: string, params: readonly (string | null)[]): Promise<void>;

  /** Called when the connection has been closed. */
  closed?(session: Session): void;
}

/** How the running command's answer is to be written. */
export interface ReplyMode {
  /**
   * False in the extended protocol: the client asks for the row description separately, or does not
   * want it.
   */
  describeRows: boolean;
  resultFormats: readonly number[];
}

export const SIMPLE_REPLY: ReplyMode = { describeRows: true, resultFormats: [] };

/** What a server says that has no PostgreSQL of any major behind it. */
const SERVER_MAJOR_DEFAULT = 15;

export class Session {
  /** Startup parameters: `user`, `database`, `application_name`, `replication`, … */
  readonly params: ReadonlyMap<string, string>;
  /** What the `options` parameter sets. */
  readonly options: ReadonlyMap<string, string>;
  /** The client's `address:port`, for messages. */
  readonly remoteAddress: string;
  /** Unique among the server's connections. A CancelRequest names it. */
  readonly processId: number;

  /**
   * The major that the client is told as the server's. A client of the replication protocol goes by
   * it.
   */
  serverMajor = SERVER_MAJOR_DEFAULT;

  /** Who the client is, as the server's {@link Negotiation} says. */
  identity: unknown;

  readonly #host: CopyBothHost;
  readonly #out: FrameWriter;
  #reply: ReplyMode = SIMPLE_REPLY;
  #completed = false;
  #copy: CopyBoth | undefined;
  #abort: AbortController | undefined;
  #closedReason: unknown;

  /** @internal */
  constructor(
    host: CopyBothHost,
    identity: {
      params: ReadonlyMap<string, string>;
      options: ReadonlyMap<string, string>;
      remoteAddress: string;
      processId: number;
    },
  ) {
    this.#host = host;
    this.#out = host.writer;
    this.params = identity.params;
    this.options = identity.options;
    this.remoteAddress = identity.remoteAddress;
    this.processId = identity.processId;
  }

  /** Aborted when the client cancels the running command or leaves, and when the server stops. */
  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    if (this.#closedReason !== undefined && !this.#abort.signal.aborted) {
      this.#abort.abort(this.#closedReason);
    }
    return this.#abort.signal;
  }

  /** Whether the connection is closed. Anything sent from then on is dropped. */
  get closed(): boolean {
    return this.#closedReason !== undefined;
  }

  /** Answers with rows. @param tag CommandComplete's text, by default `SELECT <count>` */
  sendRows(
    columns: readonly Column[],
    rows: readonly (readonly Value[])[],
    tag = `SELECT ${rows.length}`,
  ): void {
    this.sendPart(columns, rows, tag);
    this.#completed = true;
  }

  /** Sends one of several results of a command. Its answer goes on. */
  sendPart(columns: readonly Column[], rows: readonly (readonly Value[])[], tag: string): void {
    this.#mayReply();
    const { describeRows, resultFormats } = this.#reply;
    if (describeRows) writeRowDescription(this.#out, columns, resultFormats);
    for (const row of rows) {
      assert(row.length === columns.length, "a row has another number of values than there are columns");
      writeDataRow(this.#out, columns, row, resultFormats);
    }
    writeCommandComplete(this.#out, tag);
    this.#out.scheduleFlush();
  }

  /** Ends an answer that has no rows. @param tag e.g. `CREATE TENANT` */
  sendCommandComplete(tag: string): void {
    this.#mayReply();
    writeCommandComplete(this.#out, tag);
    this.#completed = true;
  }

  /**
   * Streams `source` to the client as COPY OUT, no faster than the client reads. Chunks may have
   * any size.
   *
   * @throws what `source` throws; the client gets it as an error in the middle of the copy
   * @throws {ZenithError} `unavailable` when the client leaves; `source` is closed then
   */
  async copyOut(source: AsyncIterable<Uint8Array>, tag = "COPY"): Promise<void> {
    await this.copyPart(source);
    this.sendCommandComplete(tag);
  }

  /**
   * Like {@link copyOut}, as one of several results of a command. A chunk of up to
   * COPY_OUT_CHUNK_BYTES is one message.
   */
  async copyPart(source: AsyncIterable<Uint8Array>): Promise<void> {
    this.#mayReply();
    writeCopyOutResponse(this.#out);
    for await (const chunk of source) {
      for (let off = 0; off < chunk.length; off += COPY_OUT_CHUNK_BYTES) {
        const part = chunk.subarray(off, off + COPY_OUT_CHUNK_BYTES);
        const at = this.#out.copyData(part.length);
        this.#out.bytes.set(part, at);
        this.#out.scheduleFlush();
        if (this.#out.congested) await this.#out.drained();
        if (this.#abort?.signal.aborted) throw this.#abort.signal.reason;
        if (this.closed) {
          throw new ZenithError("unavailable", `client ${this.remoteAddress} went away during COPY`);
        }
      }
    }
    this.#out.empty(COPY_DONE);
  }

  /** Switches to COPY BOTH. The command is complete once `run` of the result has returned. */
  copyBoth(): CopyBoth {
    this.#mayReply();
    assert(this.#copy === undefined, "copyBoth() called twice in one command");
    writeCopyBothResponse(this.#out);
    this.#copy = new CopyBoth(this.#host);
    if (this.closed) this.#copy.close();
    return this.#copy;
  }

  /** @internal The stream that the running command has opened. */
  get copy(): CopyBoth | undefined {
    return this.#copy;
  }

  /** @internal Begins a command. */
  beginReply(mode: ReplyMode): void {
    this.#reply = mode;
    this.#completed = false;
  }

  /** @internal Completes the answer after the command's handler has returned. */
  completeReply(sql: string): void {
    const copy = this.#copy;
    if (copy !== undefined && !copy.finished) {
      throw new PgError(SQLSTATE_PROTOCOL_VIOLATION, "the command ended before its COPY did");
    }
    if (this.#completed) return;
    if (copy !== undefined) this.sendCommandComplete(copy.endTag ?? "COPY");
    else this.sendCommandComplete(sql.trim().split(/\s/, 1)[0].toUpperCase());
  }

  /** @internal Ends the command, whether or not it succeeded. */
  endReply(): void {
    this.#copy?.close();
    this.#copy = undefined;
    this.#abort = undefined;
  }

  /** @internal Aborts the running command. */
  cancel(reason: Error): void {
    this.#abort ??= new AbortController();
    this.#abort.abort(reason);
  }

  /** @internal Handles the end of the connection. */
  close(reason: Error): void {
    if (this.#closedReason !== undefined) return;
    this.#closedReason = reason;
    this.#abort?.abort(reason);
    this.#copy?.close();
  }

  #mayReply(): void {
    assert(!this.#completed, "a command has been answered twice");
  }
}
