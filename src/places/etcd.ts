/** What we use of etcd 3.4 and later, by the JSON gateway that each member has at /v3. */
import { errorMessage, ZenithError } from "../common/errors.ts";
import { readText } from "../common/read_text.ts";
import { fetchTls } from "../common/fetch_tls.ts";
import type { EtcdLocation } from "./location.ts";

const REQUEST_TIMEOUT_MS = 1_500;

/** The gateway writes 64-bit numbers as text, and leaves out what is zero. */
export interface EtcdKey {
  readonly key: string;
  readonly value: string;
  readonly revision: string;
}

/** A condition of {@link Etcd.txn}. */
export type EtcdCompare =
  | { readonly key: string; readonly revision: string }
  | { readonly key: string; readonly absent: true };

type Json = Readonly<Record<string, unknown>>;

/** What a member answers that wants to know, or know anew, who asks. */
const WHO_ASKS = /invalid auth token|revision of auth store is old|user name is empty/;
const PERMISSION_DENIED = 7;
/** What etcd says of a wrong name or password. */
const INVALID_ARGUMENT = 3;
/** How much of another answer is shown. */
const SAID_MAX = 200;

export class Etcd {
  readonly #location: EtcdLocation;
  readonly #tls: RequestInit;
  /** The member that has answered last. */
  #member = 0;
  /** By which etcd knows us for some minutes. Null before it was asked for. */
  #token: string | null = null;

  /** @throws {ZenithError} `io` when a certificate can't be read */
  constructor(location: EtcdLocation) {
    this.#location = location;
    this.#tls = tlsOf(location);
  }

  /** @returns the lease's id */
  async grant(seconds: number): Promise<string> {
    return String((await this.#call("lease/grant", { TTL: String(seconds), ID: "0" }))["ID"]);
  }

  /** @returns whether there still is such a lease */
  async keepAlive(lease: string): Promise<boolean> {
    const { result } = await this.#call("lease/keepalive", { ID: lease }) as {
      result?: { readonly TTL?: string };
    };
    return Number(result?.TTL ?? 0) > 0;
  }

  async put(key: string, value: string, lease: string): Promise<void> {
    await this.#call("kv/put", { key: encode(key), value: encode(value), lease });
  }

  /** Returns all keys with a prefix, as of one moment. */
  async range(prefix: string): Promise<EtcdKey[]> {
    const answer = await this.#call("kv/range", { key: encode(prefix), range_end: encode(after(prefix)) });
    const found = (answer["kvs"] ?? []) as { key: string; value?: string; mod_revision: string }[];
    return found.map(({ key, value = "", mod_revision }) => ({
      key: decode(key),
      value: decode(value),
      revision: mod_revision,
    }));
  }

  /**
   * Writes a key, or removes it, if all conditions are met. @param value null removes it @returns
   * whether they were
   */
  async txn(compare: readonly EtcdCompare[], key: string, value: string | null): Promise<boolean> {
    const answer = await this.#call("kv/txn", {
      compare: compare.map((each) => ({
        key: encode(each.key),
        result: "EQUAL",
        ...("absent" in each
          ? { target: "VERSION", version: "0" }
          : { target: "MOD", mod_revision: each.revision }),
      })),
      success: [
        value === null
          ? { request_delete_range: { key: encode(key) } }
          : { request_put: { key: encode(key), value: encode(value) } },
      ],
    });
    return answer["succeeded"] === true;
  }

  /** Asks one member after the other. @throws {ZenithError} `unavailable`, `forbidden`, `io` */
  async #call(path: string, body: Json): Promise<Json> {
    const { endpoints, user } = this.#location;
    let problem = "";
    for (let i = 0; i < endpoints.length; i++) {
      const endpoint = endpoints[this.#member]!;
      try {
        let response = await this.#post(endpoint, path, body);
        if (!response.ok && user !== null && WHO_ASKS.test(response.problem)) {
          this.#token = null;
          this.#token = await this.#authenticate(endpoint, user);
          response = await this.#post(endpoint, path, body);
        }
        if (response.ok) return response.answer;
        problem = `${endpoint}: ${response.problem}`;
        if (response.answer["code"] === PERMISSION_DENIED) {
          throw new ZenithError("forbidden", `etcd refuses: ${problem}`, {
            hint: `user "${user?.name}" needs to read and write ${this.#location.prefix}`,
          });
        }
      } catch (error) {
        if (error instanceof ZenithError) throw error;
        problem = `${endpoint}: ${errorMessage(error)}`;
      }
      this.#member = (this.#member + 1) % endpoints.length;
    }
    throw new ZenithError("unavailable", `etcd does not answer: ${problem}`, {
      hint: "tenants stay where they are until it does",
    });
  }

  async #post(
    endpoint: string,
    path: string,
    body: Json,
  ): Promise<{ readonly ok: boolean; readonly answer: Json; readonly problem: string }> {
    const response = await fetch(`${endpoint}/v3/${path}`, {
      ...this.#tls,
      method: "POST",
      headers: this.#token === null ? {} : { Authorization: this.#token },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
    });
    const text = await response.text();
    const answer = parseAnswer(text);
    const said = String(answer?.["message"] ?? answer?.["error"] ?? text.trim().slice(0, SAID_MAX));
    return {
      ok: response.ok && answer !== null,
      answer: answer ?? {},
      problem: `${response.status}, ${said}`,
    };
  }

  /** @returns a token, by which any member knows us */
  async #authenticate(
    endpoint: string,
    { name, passwordFile }: { readonly name: string; readonly passwordFile: string },
  ): Promise<string> {
    const password = readText(passwordFile).trimEnd();
    const { ok, answer, problem } = await this.#post(endpoint, "auth/authenticate", { name, password });
    if (ok) return String(answer["token"]);
    // Other troubles pass, or are those of this member alone.
    if (answer["code"] !== INVALID_ARGUMENT) throw new Error(problem);
    throw new ZenithError("forbidden", `etcd at ${endpoint} does not let user "${name}" in: ${problem}`, {
      hint: `the password is what ${passwordFile} has`,
    });
  }
}

function encode(text: string): string {
  return Buffer.from(text).toString("base64");
}

function decode(text: string): string {
  return Buffer.from(text, "base64").toString();
}

/** The first key after all with this prefix, which ends with an ASCII character. */
function after(prefix: string): string {
  const last = prefix.length - 1;
  return prefix.slice(0, last) + String.fromCharCode(prefix.charCodeAt(last) + 1);
}

function tlsOf({ caFile, certFile, keyFile }: EtcdLocation): RequestInit {
  if (caFile === null) return {};
  const own = certFile === null || keyFile === null ? undefined : { cert: certFile, key: keyFile };
  return fetchTls({ ca: caFile, own });
}

/** Null for what is not an answer of the gateway. */
function parseAnswer(text: string): Json | null {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return null;
  }
}
