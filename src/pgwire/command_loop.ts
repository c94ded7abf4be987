/** Runs the session phase of a server's connection: the client's commands, one at a time. */
import { ByteCursor } from "./byte_cursor.ts";
import { ExtendedQuery } from "./extended_query.ts";
import type { FrameWriter } from "./frame_writer.ts";
import { answerDescribeQuery } from "./gdesc.ts";
import {
  BIND,
  CLOSE,
  COPY_DATA,
  COPY_DONE,
  COPY_FAIL,
  DESCRIBE,
  EMPTY_QUERY_RESPONSE,
  EXECUTE,
  FLUSH,
  PARSE,
  QUERY,
  SYNC,
  TERMINATE,
} from "./message_types.ts";
import { writeErrorResponse, writeReadyForQuery } from "./server_messages.ts";
import { type ConnectionHandler, type ReplyMode, type Session, SIMPLE_REPLY } from "./session.ts";
import {
  PgError,
  ProtocolError,
  SQLSTATE_FEATURE_NOT_SUPPORTED,
  SQLSTATE_QUERY_CANCELED,
} from "./sqlstate.ts";

/** What the commands need from their connection. */
export interface CommandHost {
  readonly writer: FrameWriter;
  /** Whether the connection is closed. */
  readonly closed: boolean;
  /**
   * Whether the server is stopping. The client is then told so instead of getting its command's
   * error.
   */
  readonly shuttingDown: boolean;
  commandBegins(): void;
  /** @param ready whether the client can send its next command */
  commandEnds(ready: boolean): void;
  /** Called when a command has failed. The client has already been told. */
  commandFailed(session: Session, sql: string, error: unknown): void;
  hangUp(): void;
}

export class CommandLoop {
  readonly #host: CommandHost;
  readonly #handler: ConnectionHandler;
  readonly #session: Session;
  readonly #extended = new ExtendedQuery();
  /** After an error in the extended protocol, everything up to the next Sync is skipped. */
  #skipToSync = false;

  constructor(host: CommandHost, handler: ConnectionHandler, session: Session) {
    this.#host = host;
    this.#handler = handler;
    this.#session = session;
  }

  /** How much memory prepared statements take. */
  get preparedBytes(): number {
    return this.#extended.bytes;
  }

  /** Drops prepared statements, because no more commands will come. */
  forget(): void {
    this.#extended.clear();
  }

  /**
   * Handles a message that arrives while no command runs.
   *
   * @throws {ProtocolError} when the message is malformed
   */
  handle(type: number, bytes: Uint8Array, off: number, len: number): void {
    if (type === TERMINATE) {
      this.#host.hangUp();
      return;
    }
    if (type === COPY_DATA || type === COPY_DONE || type === COPY_FAIL) return; // the rest of a copy that failed
    if (this.#skipToSync && type !== SYNC) return;
    if (type === QUERY) {
      const cursor = new ByteCursor("Query message", bytes, off, len);
      const sql = cursor.cstring();
      cursor.end();
      this.#extended.dropUnnamed();
      this.#run(sql, [], SIMPLE_REPLY, true);
      return;
    }
    try {
      this.#handleExtended(type, bytes, off, len);
    } catch (error) {
      if (error instanceof ProtocolError) throw error;
      writeErrorResponse(this.#host.writer, "ERROR", error);
      this.#skipToSync = true;
    }
  }

  /**
   * Handles a message that arrives while a command with an open COPY runs.
   *
   * @throws {ProtocolError} when the message is not allowed during a COPY
   */
  handleCopy(type: number, bytes: Uint8Array, off: number, len: number): void {
    const copy = this.#session.copy!;
    if (type === COPY_DATA) {
      try {
        copy.deliver(bytes, off, len);
      } catch (error) {
        copy.close(error);
      }
    } else if (type === COPY_DONE) {
      copy.deliverEnd();
    } else if (type === COPY_FAIL) {
      const reason = new ByteCursor("CopyFail message", bytes, off, len).cstring();
      copy.close(new PgError(SQLSTATE_QUERY_CANCELED, `COPY failed at the client: ${reason}`));
    } else if (type === TERMINATE) {
      this.#host.hangUp();
    } else if (type !== FLUSH && type !== SYNC) {
      throw new ProtocolError(`unexpected message "${String.fromCharCode(type)}" during COPY`);
    }
  }

  #handleExtended(type: number, bytes: Uint8Array, off: number, len: number): void {
    const { writer } = this.#host;
    switch (type) {
      case PARSE:
        this.#extended.parse(writer, bytes, off, len);
        return;
      case BIND:
        this.#extended.bind(writer, bytes, off, len);
        return;
      case DESCRIBE:
        this.#extended.describe(writer, bytes, off, len, (sql) => {
          return isEmpty(sql) ? null : this.#handler.describe(this.#session, sql);
        });
        return;
      case EXECUTE: {
        const { sql, params, resultFormats } = this.#extended.execute(bytes, off, len);
        this.#run(sql, params, { describeRows: false, resultFormats }, false);
        return;
      }
      case CLOSE:
        this.#extended.close(writer, bytes, off, len);
        return;
      case SYNC:
        this.#skipToSync = false;
        this.#extended.endTransaction();
        writeReadyForQuery(writer);
        return;
      case FLUSH:
        return; // everything is flushed when its batch has been handled
      default:
        throw new PgError(
          SQLSTATE_FEATURE_NOT_SUPPORTED,
          `message type "${String.fromCharCode(type)}" is not supported`,
        );
    }
  }

  async #run(
    sql: string,
    params: readonly (string | null)[],
    mode: ReplyMode,
    simple: boolean,
  ): Promise<void> {
    const host = this.#host;
    const session = this.#session;
    if (isEmpty(sql)) {
      host.writer.empty(EMPTY_QUERY_RESPONSE);
      if (simple) writeReadyForQuery(host.writer);
      return;
    }
    host.commandBegins();
    session.beginReply(mode);
    try {
      const described = simple ? answerDescribeQuery(sql) : undefined;
      if (described !== undefined) session.sendRows(described.columns, described.rows);
      else await this.#handler.query(session, sql, params);
      if (!host.closed) session.completeReply(sql);
    } catch (error) {
      if (!host.closed) {
        if (!host.shuttingDown) writeErrorResponse(host.writer, "ERROR", error);
        this.#skipToSync = !simple;
      }
      host.commandFailed(session, sql, error);
    }
    session.endReply();
    if (!host.closed) host.commandEnds(simple);
  }
}

function isEmpty(sql: string): boolean {
  return /^[\s;]*$/.test(sql);
}
