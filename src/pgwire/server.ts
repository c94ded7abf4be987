/** A PostgreSQL wire protocol server for Zenith's own commands. */
import { createServer, type Server, type Socket } from "node:net";
import { formatHostPort, type HostPort } from "../common/host_port.ts";
import { listen } from "../common/listen.ts";
import { openFilesLimit } from "../common/open_files.ts";
import {
  connectionLimits,
  IDLE_CHECK_MS,
  IDLE_GIVES_WAY_MS,
  IDLE_TIMEOUT_MS,
  RESERVED_CONNECTIONS,
  SERVER_HELD_MAX_BYTES,
  SHUTDOWN_GRACE_MS,
  STARTUP_TIMEOUT_MS,
} from "./limits.ts";
import { type Negotiation, TRUST } from "./negotiation.ts";
import { ServerConnection, type ServerContext } from "./server_connection.ts";
import type { ConnectionHandler, Session } from "./session.ts";
import { PgError, SQLSTATE_OUT_OF_MEMORY, SQLSTATE_TOO_MANY_CONNECTIONS } from "./sqlstate.ts";

export interface ServerOptions {
  /** Defaults to {@link TRUST}. */
  negotiation?: Negotiation;
  /** Defaults to the result of {@link connectionLimits}. */
  maxConnections?: number;
  /** How many bytes of their peers' data all connections may hold together. */
  maxHeldBytes?: number;
  /** How many connections are reserved for clients on the same machine. */
  reservedConnections?: number;
  /** How long a connection may be idle. */
  idleTimeoutMs?: number;
  /**
   * How long a connection must have been idle before it gives way to a new one on a full server.
   */
  idleGivesWayMs?: number;
  startupTimeoutMs?: number;
  /** How long {@link PgServer.close} lets running commands finish. */
  shutdownGraceMs?: number;
  /** A connection ended in an error: the peer broke the protocol, or was refused. */
  onConnectionError?(remoteAddress: string, error: unknown): void;
  /** A command failed. The client has already been told. */
  onQueryError?(session: Session, sql: string, error: unknown): void;
}

const PROCESS_ID_MAX = 0x7fff_ffff;

export class PgServer implements ServerContext {
  readonly handler: ConnectionHandler;
  readonly negotiation: Negotiation;
  readonly startupTimeoutMs: number;

  readonly #options: ServerOptions;
  readonly #maxConnections: number;
  readonly #refusedMax: number;
  readonly #reserved: number;
  readonly #idleTimeoutMs: number;
  readonly #maxHeldBytes: number;
  #heldBytes = 0;
  #idleCheck: ReturnType<typeof setInterval> | undefined;
  readonly #server: Server;
  readonly #connections = new Map<number, ServerConnection>();
  #admitted = new Set<ServerConnection>();
  #nextProcessId = 1;
  #allGone: (() => void) | undefined;

  constructor(handler: ConnectionHandler, options: ServerOptions = {}) {
    this.handler = handler;
    this.negotiation = options.negotiation ?? TRUST;
    this.#options = options;
    const limits = connectionLimits(openFilesLimit());
    this.#maxConnections = options.maxConnections ?? limits.connections;
    this.#refusedMax = limits.refused;
    this.#reserved = options.reservedConnections ??
      (options.maxConnections === undefined ? RESERVED_CONNECTIONS : 0);
    this.#maxHeldBytes = options.maxHeldBytes ?? SERVER_HELD_MAX_BYTES;
    this.#idleTimeoutMs = options.idleTimeoutMs ?? IDLE_TIMEOUT_MS;
    this.startupTimeoutMs = options.startupTimeoutMs ?? STARTUP_TIMEOUT_MS;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
  }

  /**
   * Starts to listen. Port 0 picks a free port.
   *
   * @returns the address that it listens on
   * @throws {ZenithError} `unavailable` when the port is taken, `io` when it can't be opened
   */
  async listen(address: HostPort): Promise<HostPort> {
    const found = await listen(
      this.#server,
      address,
      (error) => this.connectionError(formatHostPort(address), error),
    );
    this.#idleCheck = setInterval(() => this.#endIdle(), Math.min(IDLE_CHECK_MS, this.#idleTimeoutMs));
    this.#idleCheck.unref();
    return found;
  }

  /**
   * Stops listening, ends idle connections, aborts running commands, and cuts the remaining
   * connections after the grace time.
   */
  async close(): Promise<void> {
    clearInterval(this.#idleCheck);
    if (this.#server.listening) this.#server.close();
    const gone = new Promise<void>((resolve) => this.#allGone = resolve);
    for (const connection of [...this.#connections.values()]) connection.shutdown();
    if (this.#connections.size > 0) {
      const timer = setTimeout(() => {
        for (const connection of [...this.#connections.values()]) connection.destroy();
      }, this.#options.shutdownGraceMs ?? SHUTDOWN_GRACE_MS);
      await gone;
      clearTimeout(timer);
    }
  }

  /** Ends the sessions for which `why` gives a reason. */
  endSessions(why: (session: Session) => PgError | undefined): void {
    for (const connection of [...this.#admitted]) {
      const reason = connection.session === undefined ? undefined : why(connection.session);
      if (reason !== undefined) connection.end(reason);
    }
  }

  /** @internal */
  hold(bytes: number): boolean {
    this.#heldBytes += bytes;
    return this.#heldBytes <= this.#maxHeldBytes;
  }

  /** @internal */
  admit(connection: ServerConnection): void {
    if (this.#heldBytes > this.#maxHeldBytes) {
      throw new PgError(
        SQLSTATE_OUT_OF_MEMORY,
        `no more connections: those there are hold more than ${this.#maxHeldBytes} bytes`,
        { severity: "FATAL", hint: "try again later" },
      );
    }
    const room = connection.isLocal ? this.#maxConnections : this.#maxConnections - this.#reserved;
    if (this.#admitted.size >= room && !this.#makeRoom()) {
      throw new PgError(
        SQLSTATE_TOO_MANY_CONNECTIONS,
        `too many connections: the limit is ${room}`,
        { severity: "FATAL" },
      );
    }
    this.#admitted.add(connection);
  }

  /** Ends the connection that has been idle longest. @returns whether there was one */
  #makeRoom(): boolean {
    let longest: ServerConnection | undefined;
    for (const connection of this.#admitted) {
      if (connection.idleSinceMs < (longest?.idleSinceMs ?? Infinity)) longest = connection;
    }
    const givesWayMs = this.#options.idleGivesWayMs ?? IDLE_GIVES_WAY_MS;
    if (longest === undefined || performance.now() - longest.idleSinceMs < givesWayMs) return false;
    this.#admitted.delete(longest);
    longest.endIdle("there is no room for others");
    return true;
  }

  #endIdle(): void {
    const latestMs = performance.now() - this.#idleTimeoutMs;
    for (const connection of [...this.#admitted]) {
      if (connection.idleSinceMs <= latestMs) {
        connection.endIdle(`it had no command for ${this.#idleTimeoutMs / 1000} s`);
      }
    }
  }

  /** @internal */
  cancel(processId: number, secretKey: number): void {
    const connection = this.#connections.get(processId);
    if (connection !== undefined && connection.secretKey === secretKey) connection.cancel();
  }

  /** @internal */
  connectionError(remoteAddress: string, error: unknown): void {
    this.#options.onConnectionError?.(remoteAddress, error);
  }

  /** @internal */
  queryError(session: Session, sql: string, error: unknown): void {
    this.#options.onQueryError?.(session, sql, error);
  }

  /** @internal */
  gone(connection: ServerConnection): void {
    this.#connections.delete(connection.processId);
    this.#admitted.delete(connection);
    if (this.#connections.size === 0) this.#allGone?.();
  }

  #accept(socket: Socket): void {
    if (this.#connections.size >= this.#maxConnections + this.#refusedMax) {
      socket.on("error", () => {}); // nobody is left to tell
      socket.destroy();
      return;
    }
    const processId = this.#takeProcessId();
    this.#connections.set(processId, new ServerConnection(this, socket, processId));
  }

  #takeProcessId(): number {
    while (this.#connections.has(this.#nextProcessId)) this.#advanceProcessId();
    const id = this.#nextProcessId;
    this.#advanceProcessId();
    return id;
  }

  #advanceProcessId(): void {
    this.#nextProcessId = this.#nextProcessId === PROCESS_ID_MAX ? 1 : this.#nextProcessId + 1;
  }
}
