/** A PostgreSQL wire protocol server for our own commands. */
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { errorMessage, systemErrorCode, ZenithError } from "../common/errors.ts";
import { MAX_CONNECTIONS, REFUSED_CONNECTIONS_MAX, SHUTDOWN_GRACE_MS, STARTUP_TIMEOUT_MS } from "./limits.ts";
import { ServerConnection, type ServerContext } from "./server_connection.ts";
import type { ConnectionHandler, Session } from "./session.ts";
import { PgError, SQLSTATE_TOO_MANY_CONNECTIONS } from "./sqlstate.ts";

export interface ServerOptions {
  maxConnections?: number;
  startupTimeoutMs?: number;
  /** How long {@link PgServer.close} lets running commands end by themselves. */
  shutdownGraceMs?: number;
  /** A connection ended in an error: a peer that broke the protocol, or one that was refused. */
  onConnectionError?(remoteAddress: string, error: unknown): void;
  /** A command failed. The client has been told. */
  onQueryError?(session: Session, sql: string, error: unknown): void;
}

const PROCESS_ID_MAX = 0x7fff_ffff;

export class PgServer implements ServerContext {
  readonly handler: ConnectionHandler;
  readonly startupTimeoutMs: number;

  readonly #options: ServerOptions;
  readonly #maxConnections: number;
  readonly #server: Server;
  readonly #connections = new Map<number, ServerConnection>();
  #admitted = new Set<ServerConnection>();
  #nextProcessId = 1;
  #allGone: (() => void) | undefined;

  constructor(handler: ConnectionHandler, options: ServerOptions = {}) {
    this.handler = handler;
    this.#options = options;
    this.#maxConnections = options.maxConnections ?? MAX_CONNECTIONS;
    this.startupTimeoutMs = options.startupTimeoutMs ?? STARTUP_TIMEOUT_MS;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
  }

  /**
   * Starts to listen. Port 0 takes a free one.
   *
   * @returns where it listens
   * @throws {ZenithError} `unavailable` when the port is taken, `io` when it can't be opened
   */
  listen(address: { host: string; port: number }): Promise<{ host: string; port: number }> {
    const { host, port } = address;
    return new Promise((resolve, reject) => {
      const failed = (error: Error): void => {
        const taken = systemErrorCode(error) === "EADDRINUSE";
        reject(
          new ZenithError(
            taken ? "unavailable" : "io",
            `could not listen on ${host}:${port}: ${taken ? "the port is taken" : errorMessage(error)}`,
            {
              cause: error,
              ...(taken ? { hint: "stop the process that listens there or take another port" } : {}),
            },
          ),
        );
      };
      this.#server.once("error", failed);
      this.#server.listen({ host, port }, () => {
        this.#server.off("error", failed);
        // From here on accept() may fail for lack of descriptors: that client is lost, the server is not.
        this.#server.on("error", (error) => this.connectionError(`${host}:${port}`, error));
        resolve({ host, port: (this.#server.address() as AddressInfo).port });
      });
    });
  }

  /** Stops listening, ends idle connections, aborts running commands, and cuts what is left after the grace time. */
  async close(): Promise<void> {
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

  /** @internal */
  admit(connection: ServerConnection): void {
    if (this.#admitted.size >= this.#maxConnections) {
      throw new PgError(
        SQLSTATE_TOO_MANY_CONNECTIONS,
        `too many connections: the limit is ${this.#maxConnections}`,
        { severity: "FATAL" },
      );
    }
    this.#admitted.add(connection);
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
    if (this.#connections.size >= this.#maxConnections + REFUSED_CONNECTIONS_MAX) {
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
