/**
 * An object store that speaks S3. Signatures are aws4fetch's. The server checks every body that it
 * gets against its SHA-256, which is signed.
 *
 * Source: Amazon S3 API Reference, 2006-03-01.
 */
import { createHash } from "node:crypto";
import { AwsV4Signer } from "aws4fetch";
import { errorMessage } from "../common/errors.ts";
import { nextTurn } from "../common/event_loop.ts";
import { fetchTls } from "../common/fetch_tls.ts";
import type { Credentials } from "./credentials.ts";
import type { S3Location } from "./location.ts";
import {
  type ByteRange,
  checkKey,
  KEYS_PER_REQUEST,
  type ListOptions,
  type ListPage,
  type ObjectStore,
  ObjectStoreError,
  type StoreFailure,
} from "./object_store.ts";
import { formatDeletion, parseListing, parseProblem } from "./s3_xml.ts";

/** How long a request may take: this, and more for its bytes at the slowest useful speed. */
const TIMEOUT_MS = 15_000;
const SLOWEST_BYTES_PER_MS = 250;
/** What an object of unknown size may need on top. */
const WHOLE_OBJECT_MS = 300_000;

interface S3Request {
  readonly method: "GET" | "PUT" | "POST";
  /** Empty for the bucket itself. */
  readonly key: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array<ArrayBuffer>;
  readonly answerMs?: number;
}

export class S3Store implements ObjectStore {
  readonly url: string;
  readonly #location: S3Location;
  readonly #base: string;
  readonly #credentials: () => Credentials;
  readonly #tls: RequestInit;

  /**
   * @param credentials called for each request
   * @throws {ZenithError} `io` when the file with the certificates can't be read
   */
  constructor(location: S3Location, credentials: () => Credentials) {
    const { endpoint, bucket, prefix, addressing } = location;
    this.#location = location;
    this.#credentials = credentials;
    this.url = `s3://${bucket}/${prefix}`.replace(/\/$/, "");
    this.#base = addressing === "path"
      ? `${endpoint.origin}/${bucket}/`
      : `${endpoint.protocol}//${bucket}.${endpoint.host}/`;
    this.#tls = location.caFile === null ? {} : fetchTls({ ca: location.caFile });
  }

  async put(key: string, body: Uint8Array): Promise<void> {
    await this.#put(key, body, {});
  }

  async putIfAbsent(key: string, body: Uint8Array): Promise<void> {
    await this.#put(key, body, { "If-None-Match": "*" });
  }

  async get(key: string, range?: ByteRange): Promise<Uint8Array> {
    // HTTP has no empty range.
    if (range !== undefined && range.end <= range.start) return new Uint8Array();
    const headers: Record<string, string> = {};
    if (range !== undefined) headers["Range"] = `bytes=${range.start}-${range.end - 1}`;
    const answerMs = range === undefined ? WHOLE_OBJECT_MS : (range.end - range.start) / SLOWEST_BYTES_PER_MS;
    const bytes = await this.#request({ method: "GET", key: this.#key(key), headers, answerMs });
    if (range === undefined || bytes.length === range.end - range.start) return bytes;
    throw new ObjectStoreError(
      "unreachable",
      `${this.url}: ${key} came with ${bytes.length} bytes, asked for ${range.end - range.start}`,
    );
  }

  async list(prefix: string, options: ListOptions = {}): Promise<ListPage> {
    const { shallow = false, from, limit = KEYS_PER_REQUEST } = options;
    const own = this.#location.prefix;
    const answer = await this.#request({
      method: "GET",
      key: "",
      query: {
        "list-type": "2",
        "prefix": own + prefix,
        "max-keys": String(limit),
        ...(shallow ? { delimiter: "/" } : {}),
        ...(from === undefined ? {} : { "continuation-token": from }),
      },
    });
    return parseListing(new TextDecoder().decode(answer), own);
  }

  async deleteMany(keys: readonly string[]): Promise<void> {
    for (let at = 0; at < keys.length; at += KEYS_PER_REQUEST) {
      const part = keys.slice(at, at + KEYS_PER_REQUEST).map((key) => this.#key(key));
      const body = new TextEncoder().encode(formatDeletion(part));
      const answer = new TextDecoder().decode(
        await this.#request({
          method: "POST",
          key: "",
          query: { delete: "" },
          headers: { "Content-MD5": createHash("md5").update(body).digest("base64") },
          body,
        }),
      );
      const problem = parseProblem(answer);
      if (problem !== undefined) throw this.#failed("delete objects", 200, problem.code, problem.message);
    }
  }

  async #put(key: string, body: Uint8Array, headers: Record<string, string>): Promise<void> {
    // Bodies of requests must not be in shared memory.
    const own = body.buffer instanceof ArrayBuffer ? body as Uint8Array<ArrayBuffer> : body.slice();
    await this.#request({ method: "PUT", key: this.#key(key), headers, body: own });
  }

  #key(key: string): string {
    checkKey(key);
    return this.#location.prefix + key;
  }

  async #request(request: S3Request): Promise<Uint8Array> {
    const { method, key, query = {}, body, answerMs = 0 } = request;
    const what = `${method} ${key === "" ? "the bucket" : key}`;
    const url = new URL(this.#base + key);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    const hash = await sha256(body ?? new Uint8Array());
    const signed = await new AwsV4Signer({
      ...this.#credentials(),
      method,
      url: url.href,
      headers: { ...request.headers, "X-Amz-Content-Sha256": hash },
      service: "s3",
      region: this.#location.region,
    }).sign();
    const timeoutMs = TIMEOUT_MS + answerMs + (body?.length ?? 0) / SLOWEST_BYTES_PER_MS;
    let status: number;
    let bytes: Uint8Array;
    try {
      const response = await fetch(signed.url.href, {
        ...this.#tls,
        method,
        headers: signed.headers,
        ...(body === undefined ? {} : { body }),
        redirect: "manual",
        signal: AbortSignal.timeout(timeoutMs),
      });
      status = response.status;
      bytes = new Uint8Array(await response.arrayBuffer());
    } catch (error) {
      throw new ObjectStoreError(
        "unreachable",
        `${this.url} at ${this.#location.endpoint.origin} does not answer ${what}: ${errorMessage(error)}`,
        { hint: "look whether that server runs and can be reached from here", cause: error },
      );
    }
    if (status >= 200 && status < 300) return bytes;
    const problem = parseProblem(new TextDecoder().decode(bytes.subarray(0, PROBLEM_BYTES_MAX)));
    throw this.#failed(what, status, problem?.code ?? "", problem?.message ?? "");
  }

  #failed(what: string, status: number, code: string, message: string): ObjectStoreError {
    const failure = failureOf(status, code);
    const words = [String(status), code, message].filter((word) => word !== "").join(", ");
    const hint = HINTS[failure];
    return new ObjectStoreError(
      failure,
      `${this.url} at ${this.#location.endpoint.origin} refuses ${what}: ${words}`,
      hint === undefined ? {} : { hint },
    );
  }
}

/** How much is hashed before other work gets its turn. */
const HASH_PIECE_BYTES = 1 << 20;

/** @returns the SHA-256 in hexadecimal digits */
async function sha256(bytes: Uint8Array): Promise<string> {
  const hash = createHash("sha256");
  for (let at = 0; at < bytes.length; at += HASH_PIECE_BYTES) {
    if (at > 0) await nextTurn();
    hash.update(bytes.subarray(at, at + HASH_PIECE_BYTES));
  }
  return hash.digest("hex");
}

const PROBLEM_BYTES_MAX = 64 << 10;

const HINTS: Readonly<Partial<Record<StoreFailure, string>>> = {
  denied: "check the bucket's name and region, the credentials, their permissions, and this machine's clock",
};

const THROTTLED_CODES: ReadonlySet<string> = new Set(["SlowDown", "ConditionalRequestConflict"]);

function failureOf(status: number, code: string): StoreFailure {
  if (THROTTLED_CODES.has(code) || status === 429 || status === 503) return "throttled";
  if (status === 412) return "precondition";
  // Without a bucket, nothing is known of its objects.
  if (status === 404 && code !== "NoSuchBucket") return "absent";
  return status >= 500 || status === 408 ? "unreachable" : "denied";
}
