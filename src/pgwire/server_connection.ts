/**
 * The server's side of one connection: takes messages off the socket and runs them, one command at
 * a time, until the peer leaves or breaks the protocol.
 */
import { randomInt } from "node:crypto";
import type { Socket } from "node:net";
import { errorMessage, ZenithError } from "../common/errors.ts";
import { ByteCursor } from "./byte_cursor.ts";
import type { CopyBothHost } from "./copy_both.ts";
import { ExtendedQuery } from "./extended_query.ts";
import { FramePump } from "./frame_pump.ts";
import { FrameReader } from "./frame_reader.ts";
import { FrameWriter } from "./frame_writer.ts";
import { answerDescribeQuery } from "./gdesc.ts";
import { LINGER_MS, TCP_KEEPALIVE_MS } from "./limits.ts";
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
  FRONTEND_LIMITS,
  PARSE,
  QUERY,
  SYNC,
  TERMINATE,
} from "./message_types.ts";
import {
  writeAuthenticationOk,
  writeBackendKeyData,
  writeErrorResponse,
  writeNegotiateProtocolVersion,
  writeParameterStatus,
  writeReadyForQuery,
} from "./server_messages.ts";
import { type ConnectionHandler, type ReplyMode, Session, SIMPLE_REPLY } from "./session.ts";
import {
  PgError,
  ProtocolError,
  SQLSTATE_ADMIN_SHUTDOWN,
  SQLSTATE_FEATURE_NOT_SUPPORTED,
  SQLSTATE_IDLE_SESSION_TIMEOUT,
  SQLSTATE_QUERY_CANCELED,
} from "./sqlstate.ts";
import { parseStartupPacket } from "./startup.ts";

/** The parameters that clients expect before their first query. */
const PARAMETER_STATUSES: readonly (readonly [name: string, value: string])[] = [
  ["server_version", "15.0 (zenith)"],
  ["server_encoding", "UTF8"],
  ["client_encoding", "UTF8"],
  ["DateStyle", "ISO, MDY"],
  ["IntervalStyle", "postgres"],
  ["TimeZone", "UTC"],
  ["integer_datetimes", "on"],
  ["standard_conforming_strings", "on"],
  ["is_superuser", "on"],
];

const NO = "N".charCodeAt(0);
const INT32_MAX = 0x7fff_ffff;

/** What a connection needs of its server. */
export interface ServerContext {
  readonly handler: ConnectionHandler;
  readonly startupTimeoutMs: number;
  /**
   * Throws when there are too many connections already; otherwise the new one counts from now on.
   */
  admit(connection: ServerConnection): void;
  cancel(processId: number, secretKey: number): void;
  /** A connection ended in an error that its peer may not have seen. */
  connectionError(remoteAddress: string, error: unknown): void;
  /** A command failed; the peer has been told. */
  queryError(session: Session, sql: string, error: unknown): void;
  gone(connection: ServerConnection): void;
}

export class ServerConnection implements CopyBothHost {
  readonly processId: number;
  readonly secretKey: number = randomInt(1, INT32_MAX);
  readonly remoteAddress: string;
  readonly writer: FrameWriter;
  readonly copyDoneCompletes = true;
  session: Session | undefined;
  /** When it became idle, by performance.now(); Infinity while a command runs. */
  idleSinceMs = Infinity;

  readonly #context: ServerContext;
  readonly #socket: Socket;
  readonly #reader = new FrameReader(FRONTEND_LIMITS);
  readonly #pump: FramePump;
  readonly #extended = new ExtendedQuery();
  /** Cuts a peer that is slow to introduce itself or slow to leave. */
  #timer: ReturnType<typeof setTimeout>;
  /** A command or the startup handler is running. */
  #busy = false;
  /** After an error in the extended protocol everything up to the next Sync is skipped. */
  #skipToSync = false;
  /** Our side is closed; the peer has to close its own. */
  #closing = false;
  #closed = false;
  #shutdownReason: PgError | undefined;

  constructor(context: ServerContext, socket: Socket, processId: number) {
    this.#context = context;
    this.#socket = socket;
    this.processId = processId;
    this.remoteAddress = `${socket.remoteAddress ?? "unknown"}:${socket.remotePort ?? 0}`;
    this.writer = new FrameWriter(socket);
    this.writer.onDrain = () => this.resumeReading();
    this.#reader.expectStartup = true;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, TCP_KEEPALIVE_MS);
    this.#timer = setTimeout(() => {
      this.#fail(new ProtocolError("startup packet did not arrive in time"));
    }, context.startupTimeoutMs);
    this.#pump = new FramePump(socket, this.#reader, this.writer, {
      mayRead: () => this.#mayRead(),
      handle: () => this.#dispatch(),
      fail: (error) => this.#fail(error),
    });
    socket.on("end", () => this.#onClose(undefined));
    socket.on("error", (error: Error) => this.#onClose(error));
    socket.on("close", () => this.#onClose(undefined));
  }

  /** Whether a command is running. */
  get busy(): boolean {
    return this.#busy;
  }

  /** Whether the peer is on this machine, which it can't pretend. */
  get isLocal(): boolean {
    const address = this.#socket.remoteAddress ?? "";
    return address === "::1" || /^(?:::ffff:)?127\./.test(address);
  }

  resumeReading(): void {
    this.#pump.run();
  }

  /** Aborts the running command; it reports that it was canceled. */
  cancel(): void {
    if (!this.#busy) return;
    this.session?.cancel(new PgError(SQLSTATE_QUERY_CANCELED, "canceling statement due to user request"));
  }

  /** Tells the peer that the server stops: at once if idle, else after its command has reacted. */
  shutdown(): void {
    const reason = new PgError(
      SQLSTATE_ADMIN_SHUTDOWN,
      "terminating connection: the server is shutting down",
      {
        severity: "FATAL",
      },
    );
    if (!this.#busy) {
      this.#fail(reason);
      return;
    }
    this.#shutdownReason = reason;
    this.session?.cancel(reason);
    this.session?.copy?.close(reason);
  }

  /** Ends an idle connection. */
  endIdle(why: string): void {
    this.idleSinceMs = Infinity;
    this.#fail(
      new PgError(SQLSTATE_IDLE_SESSION_TIMEOUT, `terminating connection: ${why}`, { severity: "FATAL" }),
    );
  }

  /** Cuts the connection. */
  destroy(): void {
    this.#onClose(undefined);
  }

  #mayRead(): boolean {
    if (this.writer.congested) return false;
    if (!this.#busy) return true;
    const copy = this.session?.copy;
    return copy !== undefined && copy.receiving && !copy.ended;
  }

  #dispatch(): void {
    const { type, bytes, off, len } = this.#reader;
    if (this.#busy) this.#dispatchCopy(type, bytes, off, len);
    else if (this.session === undefined) this.#dispatchStartup(bytes, off, len);
    else this.#dispatchCommand(this.session, type, bytes, off, len);
  }

  #dispatchStartup(bytes: Uint8Array, off: number, len: number): void {
    const packet = parseStartupPacket(bytes, off, len);
    switch (packet.kind) {
      case "ssl":
      case "gssenc":
        this.writer.rawByte(NO);
        return;
      case "cancel":
        this.#context.cancel(packet.processId, packet.secretKey);
        this.#hangUp();
        return;
      case "startup": {
        clearTimeout(this.#timer);
        this.#reader.expectStartup = false;
        this.#context.admit(this);
        if (packet.negotiate !== undefined) writeNegotiateProtocolVersion(this.writer, packet.negotiate);
        const session = new Session(this, {
          params: packet.params,
          options: packet.options,
          remoteAddress: this.remoteAddress,
          processId: this.processId,
        });
        this.session = session;
        this.#busy = true;
        this.#start(session);
      }
    }
  }

  async #start(session: Session): Promise<void> {
    try {
      await this.#context.handler.startup?.(session);
    } catch (error) {
      this.#fail(this.#shutdownReason ?? error);
      return;
    }
    if (this.#closed) return;
    writeAuthenticationOk(this.writer);
    for (const [name, value] of PARAMETER_STATUSES) writeParameterStatus(this.writer, name, value);
    const applicationName = session.params.get("application_name");
    if (applicationName !== undefined) writeParameterStatus(this.writer, "application_name", applicationName);
    writeBackendKeyData(this.writer, this.processId, this.secretKey);
    this.#commandDone(true);
  }

  #dispatchCommand(session: Session, type: number, bytes: Uint8Array, off: number, len: number): void {
    if (type === TERMINATE) {
      this.#hangUp();
      return;
    }
    if (type === COPY_DATA || type === COPY_DONE || type === COPY_FAIL) return; // the rest of a copy that failed
    if (this.#skipToSync && type !== SYNC) return;
    if (type === QUERY) {
      const cursor = new ByteCursor("Query message", bytes, off, len);
      const sql = cursor.cstring();
      cursor.end();
      this.#extended.dropUnnamed();
      this.#run(session, sql, [], SIMPLE_REPLY, true);
      return;
    }
    try {
      this.#dispatchExtended(session, type, bytes, off, len);
    } catch (error) {
      if (error instanceof ProtocolError) throw error;
      writeErrorResponse(this.writer, "ERROR", error);
      this.#skipToSync = true;
    }
  }

  #dispatchExtended(session: Session, type: number, bytes: Uint8Array, off: number, len: number): void {
    switch (type) {
      case PARSE:
        this.#extended.parse(this.writer, bytes, off, len);
        return;
      case BIND:
        this.#extended.bind(this.writer, bytes, off, len);
        return;
      case DESCRIBE:
        this.#extended.describe(this.writer, bytes, off, len, (sql) => {
          return isEmpty(sql) ? null : this.#context.handler.describe(session, sql);
        });
        return;
      case EXECUTE: {
        const { sql, params, resultFormats } = this.#extended.execute(bytes, off, len);
        this.#run(session, sql, params, { describeRows: false, resultFormats }, false);
        return;
      }
      case CLOSE:
        this.#extended.close(this.writer, bytes, off, len);
        return;
      case SYNC:
        this.#skipToSync = false;
        this.#extended.endTransaction();
        writeReadyForQuery(this.writer);
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

  #dispatchCopy(type: number, bytes: Uint8Array, off: number, len: number): void {
    const copy = this.session!.copy!;
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
      this.#hangUp();
    } else if (type !== FLUSH && type !== SYNC) {
      throw new ProtocolError(`unexpected message "${String.fromCharCode(type)}" during COPY`);
    }
  }

  async #run(
    session: Session,
    sql: string,
    params: readonly (string | null)[],
    mode: ReplyMode,
    simple: boolean,
  ): Promise<void> {
    if (isEmpty(sql)) {
      this.writer.empty(EMPTY_QUERY_RESPONSE);
      if (simple) writeReadyForQuery(this.writer);
      return;
    }
    this.#busy = true;
    this.idleSinceMs = Infinity;
    session.beginReply(mode);
    try {
      const described = simple ? answerDescribeQuery(sql) : undefined;
      if (described !== undefined) session.sendRows(described.columns, described.rows);
      else await this.#context.handler.query(session, sql, params);
      if (!this.#closed) session.completeReply(sql);
    } catch (error) {
      if (!this.#closed) {
        if (this.#shutdownReason === undefined) writeErrorResponse(this.writer, "ERROR", error);
        this.#skipToSync = !simple;
      }
      this.#context.queryError(session, sql, error);
    }
    session.endReply();
    if (!this.#closed) this.#commandDone(simple);
  }

  #commandDone(ready: boolean): void {
    this.#busy = false;
    this.idleSinceMs = performance.now();
    if (this.#shutdownReason !== undefined) {
      this.#fail(this.#shutdownReason);
      return;
    }
    if (ready) writeReadyForQuery(this.writer);
    this.#pump.run();
  }

  /** Says why and hangs up. */
  #fail(error: unknown): void {
    if (this.#closed || this.#closing) return;
    this.#context.connectionError(this.remoteAddress, error);
    writeErrorResponse(this.writer, "FATAL", error);
    this.#hangUp();
  }

  /**
   * Closes our side after the pending output, then waits for the peer to close its own: closing
   * with input unread resets the connection, and the peer would never see the last message.
   */
  #hangUp(): void {
    this.#closing = true;
    this.#pump.stop();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#onClose(undefined), LINGER_MS);
    this.writer.flush();
    this.#socket.end();
    if (this.#socket.isPaused()) this.#socket.resume();
  }

  #onClose(error: Error | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#pump.stop();
    clearTimeout(this.#timer);
    this.writer.close();
    this.#socket.destroy();
    const session = this.session;
    if (session !== undefined) {
      const why = error === undefined ? "" : `: ${errorMessage(error)}`;
      session.close(new ZenithError("unavailable", `connection of ${this.remoteAddress} closed${why}`));
      this.#context.handler.closed?.(session);
    }
    this.#context.gone(this);
  }
}

function isEmpty(sql: string): boolean {
  return /^[\s;]*$/.test(sql);
}
