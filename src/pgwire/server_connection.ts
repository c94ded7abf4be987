/**
 * Handles the server's side of one connection: its socket, its phases (a handshake, then a
 * session), and how it ends.
 */
import { randomInt } from "node:crypto";
import type { Socket } from "node:net";
import { errorMessage, ZenithError } from "../common/errors.ts";
import { type CommandHost, CommandLoop } from "./command_loop.ts";
import type { CopyBothHost } from "./copy_both.ts";
import { FramePump } from "./frame_pump.ts";
import { FrameReader } from "./frame_reader.ts";
import { FrameWriter } from "./frame_writer.ts";
import { Handshake, type HandshakeHost } from "./handshake.ts";
import { CONNECTION_FREE_BYTES, LINGER_MS, TCP_KEEPALIVE_MS } from "./limits.ts";
import { FRONTEND_LIMITS } from "./message_types.ts";
import type { Negotiation, StartupRequest } from "./negotiation.ts";
import {
  writeAuthenticationOk,
  writeBackendKeyData,
  writeErrorResponse,
  writeParameterStatus,
  writeReadyForQuery,
} from "./server_messages.ts";
import { type ConnectionHandler, Session } from "./session.ts";
import { clientCertificate } from "./tls.ts";
import {
  PgError,
  ProtocolError,
  SQLSTATE_ADMIN_SHUTDOWN,
  SQLSTATE_IDLE_SESSION_TIMEOUT,
  SQLSTATE_OUT_OF_MEMORY,
  SQLSTATE_QUERY_CANCELED,
} from "./sqlstate.ts";

/** The parameters that clients expect to get before their first query. */
const PARAMETER_STATUSES: readonly (readonly [name: string, value: string])[] = [
  ["server_encoding", "UTF8"],
  ["client_encoding", "UTF8"],
  ["DateStyle", "ISO, MDY"],
  ["IntervalStyle", "postgres"],
  ["TimeZone", "UTC"],
  ["integer_datetimes", "on"],
  ["standard_conforming_strings", "on"],
  ["is_superuser", "on"],
];

const INT32_MAX = 0x7fff_ffff;

/** What a connection needs from its server. */
export interface ServerContext {
  readonly handler: ConnectionHandler;
  readonly negotiation: Negotiation;
  /** How long the startup packet may take, and again the authentication after it. */
  readonly startupTimeoutMs: number;
  /** Counts the new connection. Throws when there are too many already. */
  admit(connection: ServerConnection): void;
  /**
   * Notes that a connection holds this many bytes more, or less, of its peer's data. @returns false
   * when all connections together hold too much
   */
  hold(bytes: number): boolean;
  cancel(processId: number, secretKey: number): void;
  /** A connection ended in an error that its peer may not have seen. */
  connectionError(remoteAddress: string, error: unknown): void;
  /** A command failed. The peer has already been told. */
  queryError(session: Session, sql: string, error: unknown): void;
  gone(connection: ServerConnection): void;
}

export class ServerConnection implements CopyBothHost, HandshakeHost, CommandHost {
  readonly processId: number;
  readonly secretKey: number = randomInt(1, INT32_MAX);
  readonly remoteAddress: string;
  readonly writer: FrameWriter;
  readonly copyDoneCompletes = true;
  session: Session | undefined;
  /** When the connection became idle, by performance.now(); Infinity while a command runs. */
  idleSinceMs = Infinity;

  readonly #context: ServerContext;
  #socket: Socket;
  readonly #reader = new FrameReader(FRONTEND_LIMITS);
  readonly #pump: FramePump;
  readonly #handshake: Handshake;
  /** Set once the handshake is over. */
  #commands: CommandLoop | undefined;
  /** Cuts off a peer that is slow to start up or slow to leave. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Set while a command, the authentication or the startup handler runs. */
  #busy = false;
  /** Set when this side is closed and the peer has to close its own. */
  #closing = false;
  #closed = false;
  /** How much of the peer's data the connection held at the last count. */
  #heldBytes = 0;
  #shutdownReason: PgError | undefined;

  constructor(context: ServerContext, socket: Socket, processId: number) {
    this.#context = context;
    this.#socket = socket;
    this.processId = processId;
    this.remoteAddress = `${socket.remoteAddress ?? "unknown"}:${socket.remotePort ?? 0}`;
    this.writer = new FrameWriter(socket);
    this.writer.onDrain = () => this.resumeReading();
    this.#handshake = new Handshake(this, this.#reader, context.negotiation);
    socket.setNoDelay(true);
    socket.setKeepAlive(true, TCP_KEEPALIVE_MS);
    this.#failAfterTimeout("startup packet did not arrive in time");
    this.#pump = new FramePump(socket, this.#reader, this.writer, {
      mayRead: () => this.#mayRead(),
      handle: () => this.#dispatch(),
      fail: (error) => this.#fail(error),
      onHeld: () => this.#noteHeld(),
    });
    this.#watch(socket);
  }

  get closed(): boolean {
    return this.#closed;
  }

  get shuttingDown(): boolean {
    return this.#shutdownReason !== undefined;
  }

  /** Whether the peer is on this machine. A peer can't fake that. */
  get isLocal(): boolean {
    const address = this.#socket.remoteAddress ?? "";
    return address === "::1" || /^(?:::ffff:)?127\./.test(address);
  }

  get clientCertificate(): string | undefined {
    return clientCertificate(this.#socket);
  }

  resumeReading(): void {
    this.#pump.run();
  }

  /** Aborts the running command, which then reports that it was canceled. */
  cancel(): void {
    if (!this.#busy) return;
    this.session?.cancel(new PgError(SQLSTATE_QUERY_CANCELED, "canceling statement due to user request"));
  }

  /**
   * Tells the peer that the server is stopping: at once if the connection is idle, otherwise after
   * its command has reacted.
   */
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
    this.#handshake.end(reason);
  }

  /** Ends the connection, and what runs on it. */
  end(reason: PgError): void {
    this.session?.cancel(reason);
    this.session?.copy?.close(reason);
    this.#fail(reason);
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

  encrypt(encrypt: NonNullable<Negotiation["encrypt"]>): void {
    const plain = this.#socket;
    this.writer.flush();
    // Keep the error listener: without one, an error event ends the process.
    plain.removeAllListeners("end").removeAllListeners("close");
    this.#socket = encrypt(plain);
    this.#pump.changeSocket(this.#socket);
    this.writer.changeSocket(this.#socket);
    this.#watch(this.#socket);
  }

  cancelOther(processId: number, secretKey: number): void {
    this.#context.cancel(processId, secretKey);
    this.hangUp();
  }

  admit(): void {
    this.#context.admit(this);
  }

  started(startup: StartupRequest): void {
    this.#failAfterTimeout("authentication did not end in time");
    const session = new Session(this, {
      params: startup.params,
      options: startup.options,
      remoteAddress: this.remoteAddress,
      processId: this.processId,
    });
    this.session = session;
    this.#busy = true;
    this.#open(session, startup);
  }

  commandBegins(): void {
    this.#busy = true;
    this.idleSinceMs = Infinity;
  }

  commandEnds(ready: boolean): void {
    this.#busy = false;
    this.idleSinceMs = performance.now();
    if (this.#shutdownReason !== undefined) {
      this.#fail(this.#shutdownReason);
      return;
    }
    if (ready) writeReadyForQuery(this.writer);
    this.#pump.run();
  }

  commandFailed(session: Session, sql: string, error: unknown): void {
    this.#context.queryError(session, sql, error);
  }

  /**
   * Closes this side after the pending output, then waits for the peer to close its own. Closing
   * with unread input would reset the connection, and the peer would never see the last message.
   */
  hangUp(): void {
    this.#closing = true;
    this.#pump.stop();
    this.#giveUpHeld();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#onClose(undefined), LINGER_MS);
    this.writer.flush();
    this.#socket.end();
    if (this.#socket.isPaused()) this.#socket.resume();
  }

  /**
   * Frees what the connection holds at once, however long the peer takes to leave. Otherwise the
   * next connection that asks for room would be ended too.
   */
  #giveUpHeld(): void {
    this.#reader.clear();
    this.#commands?.forget();
    this.#countHeld();
  }

  /**
   * @returns how much more the connection holds than before, and whether the server has room for
   *   that
   */
  #countHeld(): { more: number; fits: boolean } {
    const held = this.#reader.bufferedBytes + this.writer.pendingBytes + (this.#commands?.preparedBytes ?? 0);
    const more = held - this.#heldBytes;
    this.#heldBytes = held;
    return { more, fits: this.#context.hold(more) };
  }

  #noteHeld(): void {
    const { more, fits } = this.#countHeld();
    if (fits || more <= 0 || this.#heldBytes <= CONNECTION_FREE_BYTES) return;
    this.#fail(
      new PgError(SQLSTATE_OUT_OF_MEMORY, "terminating connection: all connections together hold too much", {
        severity: "FATAL",
        hint: "send less ahead, close prepared statements, or try again later",
      }),
    );
  }

  #mayRead(): boolean {
    if (this.writer.congested) return false;
    if (this.#commands === undefined) return this.#handshake.mayRead;
    if (!this.#busy) return true;
    const copy = this.session?.copy;
    return copy !== undefined && copy.receiving && !copy.ended;
  }

  #dispatch(): void {
    const { type, bytes, off, len } = this.#reader;
    if (this.#commands === undefined) this.#handshake.handle();
    else if (this.#busy) this.#commands.handleCopy(type, bytes, off, len);
    else this.#commands.handle(type, bytes, off, len);
  }

  /** Admits the client to its session, or tells it the reason for the refusal. */
  async #open(session: Session, startup: StartupRequest): Promise<void> {
    try {
      session.identity = await this.#handshake.authenticate(startup);
      if (this.#closed || this.#closing) return;
      clearTimeout(this.#timer);
      await this.#context.handler.startup?.(session);
    } catch (error) {
      this.#fail(this.#shutdownReason ?? error);
      return;
    }
    if (this.#closed) return;
    this.#commands = new CommandLoop(this, this.#context.handler, session);
    writeAuthenticationOk(this.writer);
    writeParameterStatus(this.writer, "server_version", `${session.serverMajor}.0 (zenith)`);
    for (const [name, value] of PARAMETER_STATUSES) writeParameterStatus(this.writer, name, value);
    const applicationName = session.params.get("application_name");
    if (applicationName !== undefined) writeParameterStatus(this.writer, "application_name", applicationName);
    writeBackendKeyData(this.writer, this.processId, this.secretKey);
    this.commandEnds(true);
  }

  #failAfterTimeout(why: string): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#fail(new ProtocolError(why)), this.#context.startupTimeoutMs);
  }

  #watch(socket: Socket): void {
    socket.on("end", () => this.#onClose(undefined));
    socket.on("error", (error: Error) => this.#onClose(error));
    socket.on("close", () => this.#onClose(undefined));
  }

  /** Reports the error to the peer and hangs up. */
  #fail(error: unknown): void {
    if (this.#closed || this.#closing) return;
    this.#context.connectionError(this.remoteAddress, error);
    writeErrorResponse(this.writer, "FATAL", error);
    this.hangUp();
    this.#handshake.end(error);
  }

  #onClose(error: Error | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#pump.stop();
    this.#context.hold(-this.#heldBytes);
    clearTimeout(this.#timer);
    this.writer.close();
    this.#socket.destroy();
    const why = error === undefined ? "" : `: ${errorMessage(error)}`;
    const reason = new ZenithError("unavailable", `connection of ${this.remoteAddress} closed${why}`);
    this.#handshake.end(reason);
    const session = this.session;
    if (session !== undefined) {
      session.close(reason);
      this.#context.handler.closed?.(session);
    }
    this.#context.gone(this);
  }
}
