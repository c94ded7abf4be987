/** The HTTP listener: one port, TLS or not, and who answers below which path. */
import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { errorMessage } from "../../common/errors.ts";
import type { HostPort } from "../../common/host_port.ts";
import { listen } from "../../common/listen.ts";
import type { Logger } from "../../process/log.ts";
import type { ServerTls } from "../../pgwire/tls.ts";
import { EncryptedPort } from "./encrypted_port.ts";
import { HttpError, problemOf } from "./problem.ts";
import { type HttpRequest, type HttpResponse, toRequest } from "./request.ts";

const HEADERS_MAX_BYTES = 16 * 1024;
const HEADERS_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 60_000;

/** Answers the requests below a path. */
export interface Site {
  /** The first segments: `["api", "v2"]`. */
  readonly at: readonly string[];
  handle(request: HttpRequest): Promise<HttpResponse>;
}

/** Takes over a connection that goes on as something else than HTTP. */
export type Upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer) => void;

export interface HttpOptions {
  readonly sites: readonly Site[];
  readonly upgrade: Upgrade;
  readonly log: Logger;
  /** Undefined for a port of this machine alone, which is not encrypted. */
  readonly tls: ServerTls | undefined;
  readonly maxConnections: number;
  /** Whether a `Host` may name us. */
  readonly isOurs: (host: string) => boolean;
}

export interface HttpFigures {
  /** By status class: `2xx`. */
  readonly answers: Map<string, number>;
  seconds: number;
}

export class HttpServer {
  readonly figures: HttpFigures = { answers: new Map(), seconds: 0 };
  readonly #options: HttpOptions;
  #server: Server | undefined;
  /** Listens in the server's place, where connections are encrypted. */
  #port: EncryptedPort | undefined;

  constructor(options: HttpOptions) {
    this.#options = options;
  }

  /** @returns where it listens @throws {ZenithError} as {@link listen} */
  async listen(address: HostPort): Promise<HostPort> {
    const { tls, maxConnections } = this.#options;
    const limits = {
      maxHeaderSize: HEADERS_MAX_BYTES,
      headersTimeout: HEADERS_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
    };
    const answer = (message: IncomingMessage, response: ServerResponse) =>
      void this.#answer(message, response);
    const server = createServer(limits, answer);
    server.maxConnections = maxConnections;
    server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      socket.on("error", () => {});
      this.#options.upgrade(request, socket, head);
    });
    server.on("clientError", (_error: Error, socket: Duplex) => {
      if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    });
    this.#server = server;
    const onError = (error: Error) =>
      this.#options.log.warn(`could not take a connection: ${errorMessage(error)}`, { err: error });
    if (tls === undefined) return await listen(server, address, onError);
    this.#port = new EncryptedPort({
      http: server,
      tls,
      maxConnections,
      headersTimeoutMs: HEADERS_TIMEOUT_MS,
      keepAliveMs: KEEP_ALIVE_MS,
    });
    return await this.#port.listen(address, onError);
  }

  async close(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    if (this.#port !== undefined) {
      await this.#port.close();
      return;
    }
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await closed;
  }

  async #answer(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const startedMs = performance.now();
    const id = requestId(message);
    const gone = new AbortController();
    response.on("close", () => gone.abort());
    let result: HttpResponse;
    try {
      const request = toRequest(message, id, gone.signal);
      if (!this.#options.isOurs(message.headers.host ?? "")) {
        throw new HttpError(421, "misdirected", "this is not the host that the request names");
      }
      result = await this.#siteOf(request).handle(request);
    } catch (error) {
      const problem = problemOf(error, id);
      if (problem.isBug) {
        this.#options.log.error(`a request failed: ${errorMessage(error)}`, { request: id, err: error });
      }
      result = problem;
    }
    send(response, result, id);
    const took = (performance.now() - startedMs) / 1_000;
    const kind = `${Math.floor(result.status / 100)}xx`;
    this.figures.answers.set(kind, (this.figures.answers.get(kind) ?? 0) + 1);
    this.figures.seconds += took;
  }

  #siteOf({ path }: HttpRequest): Site {
    const site = this.#options.sites.find(({ at }) => at.every((segment, i) => path[i] === segment));
    if (site === undefined) throw new HttpError(404, "not_found", "there is nothing at this path");
    return site;
  }
}

/** A client may name its request, so that it finds it in our log. */
function requestId({ headers }: IncomingMessage): string {
  const given = headers["x-request-id"];
  return typeof given === "string" && /^[A-Za-z0-9_-]{8,64}$/.test(given) ? given : randomUUID();
}

function send(response: ServerResponse, { status, body, headers = {} }: HttpResponse, id: string): void {
  if (response.destroyed) return;
  const isText = typeof body === "string";
  const sent = body === undefined ? "" : isText || body instanceof Uint8Array ? body : JSON.stringify(body);
  response.writeHead(status, {
    ...(body === undefined
      ? {}
      : { "content-type": isText ? "text/plain; charset=utf-8" : "application/json" }),
    "content-length": String(Buffer.byteLength(sent)),
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-request-id": id,
    ...headers,
  });
  response.end(sent);
}
