/**
 * A port with TLS for an HTTP server that does not listen itself. Each connection shows the
 * certificate of its time; a listener of `node:https` would show the one of its start for ever.
 */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { createServer, type Server as NetServer, type Socket } from "node:net";
import type { HostPort } from "../../common/host_port.ts";
import { listen } from "../../common/listen.ts";
import type { ServerTls } from "../../pgwire/tls.ts";

export interface EncryptedPortOptions {
  readonly http: Server;
  readonly tls: ServerTls;
  readonly maxConnections: number;
  /** How long a connection may take until its first request is here, with its headers. */
  readonly headersTimeoutMs: number;
  /** How long it may take until the next one is. */
  readonly keepAliveMs: number;
}

interface Connection {
  /** Requests without an answer. */
  busy: number;
  timer: ReturnType<typeof setTimeout> | undefined;
}

export class EncryptedPort {
  readonly #options: EncryptedPortOptions;
  readonly #server: NetServer;
  readonly #connections = new Map<Socket, Connection>();

  constructor(options: EncryptedPortOptions) {
    this.#options = options;
    this.#server = createServer((socket) => this.#accept(socket));
    // The runtime keeps time for its own listeners only.
    options.http.prependListener("request", (request: IncomingMessage, response: ServerResponse) => {
      const { socket } = request;
      this.#begin(socket);
      response.on("close", () => this.#end(socket));
    });
    options.http.prependListener("upgrade", (request: IncomingMessage) => this.#begin(request.socket));
  }

  /** @returns where it listens @throws {ZenithError} as {@link listen} */
  async listen(address: HostPort, onError: (error: Error) => void): Promise<HostPort> {
    return await listen(this.#server, address, onError);
  }

  /** Takes no more connections, and ends those there are. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#connections.keys()) socket.destroy();
    await closed;
  }

  #accept(plain: Socket): void {
    plain.on("error", () => plain.destroy());
    const { http, tls, maxConnections, headersTimeoutMs } = this.#options;
    if (this.#connections.size >= maxConnections) {
      plain.destroy();
      return;
    }
    plain.setNoDelay(true);
    let socket: Socket;
    try {
      ({ socket } = tls.accept(plain, "http/1.1"));
    } catch {
      plain.destroy();
      return;
    }
    const connection: Connection = { busy: 0, timer: undefined };
    this.#connections.set(socket, connection);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      clearTimeout(connection.timer);
      this.#connections.delete(socket);
      plain.destroy();
    });
    this.#await(socket, connection, headersTimeoutMs);
    http.emit("connection", socket);
  }

  #await(socket: Socket, connection: Connection, ms: number): void {
    clearTimeout(connection.timer);
    connection.timer = setTimeout(() => socket.destroy(), ms);
  }

  #begin(socket: Socket): void {
    const connection = this.#connections.get(socket);
    if (connection === undefined) return;
    connection.busy++;
    clearTimeout(connection.timer);
  }

  #end(socket: Socket): void {
    const connection = this.#connections.get(socket);
    if (connection === undefined) return;
    connection.busy--;
    if (connection.busy === 0) this.#await(socket, connection, this.#options.keepAliveMs);
  }
}
