/** A request, with limits on all that its sender chooses. */
import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { HttpError } from "./problem.ts";

/** The largest body of the API's own requests. */
const BODY_MAX_BYTES = 1 << 20;
/** How long a body may take to arrive. */
const BODY_TIMEOUT_MS = 30_000;
const URL_MAX_LENGTH = 8_192;

export interface HttpRequest {
  /** Names the request in logs and answers. */
  readonly id: string;
  readonly method: string;
  /** The path's segments, decoded: `/v1/a%2Fb` is `["v1", "a/b"]`. */
  readonly path: readonly string[];
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  /** The sender's address, without the port. */
  readonly address: string;
  readonly port: number;
  /** Aborted once its sender is gone, or has the answer. */
  readonly signal: AbortSignal;
  /** Reads the body. @throws {HttpError} `413`, `408` */
  body(maxBytes?: number): Promise<Buffer>;
}

export interface HttpResponse {
  readonly status: number;
  /** JSON, unless it is a string, bytes, or there is none. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/** @throws {HttpError} when the URL can't be read */
export function toRequest(message: IncomingMessage, id: string, signal: AbortSignal): HttpRequest {
  const url = message.url ?? "";
  if (url.length > URL_MAX_LENGTH) throw new HttpError(414, "uri_too_long", "the URL is too long");
  const [path = "", query = ""] = splitAt(url, "?");
  if (!path.startsWith("/")) throw new HttpError(400, "bad_request", "the URL is not a path");
  return {
    id,
    method: message.method ?? "GET",
    path: path.slice(1).split("/").map(decodeSegment),
    query: new URLSearchParams(query),
    headers: message.headers,
    address: message.socket.remoteAddress ?? "",
    port: message.socket.remotePort ?? 0,
    signal,
    body: (maxBytes = BODY_MAX_BYTES) => readBody(message, maxBytes),
  };
}

function splitAt(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

function decodeSegment(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new HttpError(400, "bad_request", "the URL has a % that encodes no UTF-8");
  }
}

function readBody(message: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const tooLarge = () => new HttpError(413, "too_large", `the body is larger than ${maxBytes} bytes`);
  if (Number(message.headers["content-length"] ?? 0) > maxBytes) return Promise.reject(tooLarge());
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const timer = setTimeout(
      () => reject(new HttpError(408, "timeout", "the body did not arrive in time", { connection: "close" })),
      BODY_TIMEOUT_MS,
    );
    const done = (work: () => void) => {
      clearTimeout(timer);
      work();
    };
    message.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size > maxBytes) done(() => reject(tooLarge()));
      else chunks.push(chunk);
    });
    message.on("end", () => done(() => resolve(Buffer.concat(chunks))));
    message.on("error", (error) => done(() => reject(error)));
    message.on("close", () => done(() => reject(new HttpError(400, "bad_request", "the body ended early"))));
  });
}

/**
 * Parses a body as JSON. An empty one is undefined.
 *
 * @throws {HttpError} `415` for anything that claims to be something else, `400`
 */
export async function readJson(request: HttpRequest, maxBytes?: number): Promise<unknown> {
  const bytes = await request.body(maxBytes);
  if (bytes.length === 0) return undefined;
  // A page in a browser can send other types to us without asking.
  const type = request.headers["content-type"] ?? "";
  if (!/^application\/json\b/i.test(type)) {
    throw new HttpError(415, "unsupported_media_type", "the body has to be application/json");
  }
  return parseJson(bytes.toString("utf8"));
}

/** @throws {HttpError} `400` */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text, (key, value: unknown) => key === "__proto__" ? undefined : value);
  } catch {
    throw new HttpError(400, "bad_request", "the body is not JSON");
  }
}
