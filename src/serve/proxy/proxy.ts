/** The Postgres port: what a client says, until its bytes and its Postgres's are only relayed. */
import { createServer, type Server, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { errorMessage } from "../../common/errors.ts";
import { type HostPort, isLoopback } from "../../common/host_port.ts";
import { listen } from "../../common/listen.ts";
import type { Logger } from "../../process/log.ts";
import type { ServerTls } from "../../pgwire/tls.ts";
import { AUTH_OK } from "../../pgwire/message_types.ts";
import { authentication, fatal } from "./messages.ts";
import { type Arrival, receive } from "./arrival.ts";
import { BackendRefusal, cancel } from "./backend.ts";
import { findDestination, type Names } from "./destination.ts";
import type { Door, Opened } from "./door.ts";
import { tlsServerEndPoint } from "./end_point.ts";
import { loginByPassword, loginByScram } from "./login.ts";
import { relay, type Traffic } from "./relay.ts";
import { PgError, SQLSTATE_TOO_MANY_CONNECTIONS } from "../../pgwire/sqlstate.ts";
import { Wire } from "./wire.ts";

/**
 * How long a client may take to say what it wants and who it is. As long as PostgreSQL's
 * authentication_timeout: of a thousand that come at once, the last one waits for the others.
 */
const LOGIN_TIMEOUT_MS = 60_000;
const TOO_SLOW = "the client did not log in in time";
const KEEPALIVE_MS = 30_000;
/** How many may say what they want though there is no room for them. */
const REFUSED_MAX = 64;

export interface ProxyOptions {
  readonly door: Door;
  readonly names: () => Names;
  readonly log: Logger;
  /** Undefined where no connection can be encrypted. */
  readonly tls: ServerTls | undefined;
  readonly maxConnections: number;
  /** What lets more in. */
  readonly roomHint: string;
}

export interface ProxyFigures extends Traffic {
  /** Since the start. */
  accepted: number;
  refused: number;
  /** Now: all connections, and those that are relayed. */
  open: number;
  sessions: number;
}

interface Client {
  readonly address: string;
  readonly how: "scram" | "password";
  /** How long it may still take to say who it is. */
  readonly leftMs: number;
}

export class Proxy {
  readonly figures: ProxyFigures = {
    accepted: 0,
    refused: 0,
    open: 0,
    sessions: 0,
    toServer: 0,
    toClient: 0,
  };
  readonly #options: ProxyOptions;
  readonly #wires = new Set<Wire>();
  /** Where the session is that a cancel key belongs to. */
  readonly #cancelKeys = new Map<string, HostPort>();
  #server: Server | undefined;

  constructor(options: ProxyOptions) {
    this.#options = options;
  }

  /** @returns where it listens @throws {ZenithError} as {@link listen} */
  async listen(address: HostPort): Promise<HostPort> {
    const server = createServer((socket) => this.#accept(socket));
    this.#server = server;
    return await listen(server, address, (error) => {
      this.#options.log.warn(`could not take a connection: ${errorMessage(error)}`, { err: error });
    });
  }

  /** Takes no more clients, and lets go of those there are. */
  async close(): Promise<void> {
    const server = this.#server;
    const closed = server === undefined
      ? Promise.resolve()
      : new Promise<void>((resolve) => server.close(() => resolve()));
    for (const wire of this.#wires) wire.destroy();
    await closed;
  }

  #accept(socket: Socket): void {
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEPALIVE_MS);
    const { tls } = this.#options;
    const encrypt = tls === undefined ? undefined : (plain: Duplex) => tls.accept(plain as Socket);
    void this.serve(socket, socket.remoteAddress ?? "", encrypt, "scram");
  }

  /**
   * Serves one client, to its end. Never throws.
   *
   * @param address the client's, without its port
   * @param encrypt undefined when the stream is encrypted, or can't be
   * @param how `password` for a client that sends its password before it is asked, as the
   *   serverless driver does; only where the stream is encrypted or local
   * @param serverName what the client has called us, when `encrypt` can't tell
   */
  async serve(
    stream: Duplex,
    address: string,
    encrypt: Parameters<typeof receive>[1],
    how: "scram" | "password",
    serverName?: string,
  ): Promise<void> {
    const wire = new Wire(stream);
    this.figures.accepted++;
    this.figures.open++;
    this.#wires.add(wire);
    try {
      this.#assertRoom(REFUSED_MAX);
      const deadlineMs = performance.now() + LOGIN_TIMEOUT_MS;
      wire.setDeadline(LOGIN_TIMEOUT_MS, TOO_SLOW);
      const arrival = await receive(wire, encrypt);
      // A start takes as long as it takes; the client has a limit of its own.
      const leftMs = deadlineMs - performance.now();
      wire.setDeadline(undefined);
      if (arrival.kind === "cancel") {
        await this.#cancel(arrival.key);
        wire.end();
        return;
      }
      this.#assertRoom(0);
      const named = serverName === undefined ? arrival : { ...arrival, serverName };
      await this.#session(wire, named, { address, how, leftMs });
    } catch (error) {
      this.#refuse(wire, error, address);
    } finally {
      this.figures.open--;
      this.#wires.delete(wire);
    }
  }

  /** @param more than there may be: those that hear why they can't stay, and end commands */
  #assertRoom(more: number): void {
    const { maxConnections, roomHint } = this.#options;
    if (this.figures.open <= maxConnections + more) return;
    throw new PgError(SQLSTATE_TOO_MANY_CONNECTIONS, "sorry, too many clients already", {
      severity: "FATAL",
      hint: roomHint,
    });
  }

  async #session(
    wire: Wire,
    { isEncrypted, params, serverName, certificate }: Arrival,
    { address, how, leftMs }: Client,
  ): Promise<void> {
    if (how === "scram" && !isEncrypted && !isLoopback(address)) {
      throw new PgError("28000", "connections from other machines have to be encrypted", {
        severity: "FATAL",
        hint: "sslmode=verify-full, with the authority's certificate as sslrootcert",
      });
    }
    const destination = findDestination(params, serverName, this.#options.names());
    this.#options.door.admit(destination.tenant, address);
    const binding = certificate === undefined ? undefined : tlsServerEndPoint(certificate);
    using opened = await this.#options.door.open(destination, async (verifier, user) => {
      wire.setDeadline(leftMs, TOO_SLOW);
      const keys = how === "scram"
        ? await loginByScram(wire, verifier, user, binding)
        : await loginByPassword(wire, verifier, user);
      wire.setDeadline(undefined);
      return keys;
    });
    await this.#relay(wire, opened);
  }

  async #relay(wire: Wire, { backend, address }: Opened): Promise<void> {
    const key = backend.cancelKey.toString("hex");
    if (key !== "") this.#cancelKeys.set(key, address);
    this.figures.sessions++;
    try {
      const client = wire.stream;
      const server = backend.wire.stream;
      const early = wire.release();
      const late = backend.wire.release();
      client.write(Buffer.concat([authentication(AUTH_OK), backend.greeting, late]));
      if (early.length > 0) server.write(early);
      await relay(client, server, this.figures);
    } finally {
      this.figures.sessions--;
      this.#cancelKeys.delete(key);
    }
  }

  async #cancel(key: Buffer): Promise<void> {
    const address = this.#cancelKeys.get(key.toString("hex"));
    if (address !== undefined) await cancel(address, key);
  }

  #refuse(wire: Wire, error: unknown, address: string): void {
    this.figures.refused++;
    this.#options.log.info(`refused a client: ${errorMessage(error)}`, { client: address });
    wire.end(error instanceof BackendRefusal ? error.bytes : fatal(error));
  }
}
