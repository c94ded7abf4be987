/** Requests to the API `/v1` of a `zenith serve` elsewhere, typed by its contract. */
import { type IncomingMessage, request as requestHttp } from "node:http";
import { request as requestHttps, type RequestOptions } from "node:https";
import { text } from "node:stream/consumers";
import type { GenericSchema, InferInput, InferOutput } from "valibot";
import { ERROR_KINDS, type ErrorKind, errorMessage, ZenithError } from "../../common/errors.ts";
import type { TenantId } from "../../common/id.ts";
import { parseTenantId } from "../../common/id.ts";
import { sleep } from "../../common/sleep.ts";
import { API } from "../../serve/api/contract.ts";
import { optionText, type OptionValues } from "../cli/command.ts";
import { Progress } from "../cli/output.ts";
import type { RemoteTarget } from "./target.ts";

type Contract = typeof API;
export type Name = keyof Contract;
export type ResultOf<N extends Name> = Contract[N] extends { result: infer S extends GenericSchema }
  ? InferOutput<S>
  : undefined;
type PartOf<N extends Name, Part extends string> = Contract[N] extends
  Record<Part, infer S extends GenericSchema> ? InferInput<S>
  : undefined;

/** One of what a list has. */
type ItemOf<N extends Name> = ResultOf<N> extends { items: (infer I)[] } ? I : never;

interface Page<I> {
  readonly items: readonly I[];
  readonly next: string | null;
}

export interface Call<N extends Name> {
  /** What the path has in braces. */
  readonly params?: Readonly<Record<string, string>>;
  readonly query?: PartOf<N, "query">;
  readonly body?: PartOf<N, "body">;
}

/** How long a server may say nothing. What takes longer is asked for as an operation. */
const TIMEOUT_MS = 300_000;
const POLL_MS = 250;
/** As many as a page has. */
const PAGE = "1000";

/** A status for which the answer has no kind of ours. */
const KIND_OF_STATUS: Readonly<Record<number, ErrorKind>> = {
  400: "invalid_argument",
  401: "forbidden",
  403: "forbidden",
  404: "not_found",
  409: "conflict",
  503: "unavailable",
};

export class RemoteClient {
  readonly #target: RemoteTarget;

  constructor(target: RemoteTarget) {
    this.#target = target;
  }

  /** Makes a request. @throws {ZenithError} what the server answers instead, in its words */
  async call<N extends Name>(name: N, call: Call<N> = {}): Promise<ResultOf<N>> {
    const { body } = await this.#request(name, call, {});
    return body as ResultOf<N>;
  }

  /** Reads all pages of a list. @throws as {@link call} */
  async all<N extends "branchList" | "tenantList" | "tokenList">(
    name: N,
    params: Readonly<Record<string, string>> = {},
  ): Promise<ItemOf<N>[]> {
    const items: ItemOf<N>[] = [];
    let cursor: string | null = null;
    do {
      const query = { limit: PAGE, ...(cursor === null ? {} : { cursor }) } as PartOf<N, "query">;
      const page = await this.call(name, { params, query }) as Page<ItemOf<N>>;
      items.push(...page.items);
      cursor = page.next;
    } while (cursor !== null);
    return items;
  }

  /**
   * Makes a change that may take long, and shows how it goes.
   *
   * @throws as {@link call}; `io` with the reason when it fails on the way
   */
  async run<N extends Name>(
    name: N,
    call: Call<N> & { params: { tenant: string } },
    what: string,
  ): Promise<void> {
    using progress = new Progress(what);
    const { status, body } = await this.#request(name, call, { prefer: "respond-async" });
    if (status !== 202) return;
    const { operation_id: operation } = body as { operation_id: string };
    const params = { tenant: call.params.tenant, operation };
    for (;;) {
      const found = await this.call("operationGet", { params });
      if (found.status === "finished") return;
      if (found.status === "failed") {
        throw new ZenithError("io", found.error ?? `${what} has failed`, {
          hint: `operation ${operation}; zenith operation list shows the others`,
        });
      }
      progress.update(found.progress ?? what);
      await sleep(POLL_MS);
    }
  }

  /** `POST /sql`, which asks for no token but for a connection string. @throws as {@link call} */
  async sql(uri: string, query: string): Promise<unknown> {
    const headers = {
      "neon-connection-string": uri,
      "neon-raw-text-output": "true",
      "neon-array-mode": "true",
    };
    const { status, body } = await this.#send("POST", "/sql", headers, { query, params: [] });
    if (status < 400) return body;
    throw refusal(status, body);
  }

  /**
   * The tenant of `--tenantid`, else the token's, else the only one there is.
   *
   * @throws {ZenithError} `invalid_argument` when there are several; as {@link call}
   */
  async tenant(options: OptionValues): Promise<TenantId> {
    const named = optionText(options, "tenantid");
    if (named !== undefined) return parseTenantId(named);
    const { tenant_id: own } = await this.call("session");
    if (own !== null) return parseTenantId(own);
    const tenants = await this.all("tenantList");
    const [only] = tenants;
    if (only !== undefined && tenants.length === 1) return parseTenantId(only.id);
    throw new ZenithError("invalid_argument", `which of ${tenants.length} tenants?`, {
      hint: 'name it with --tenantid; "zenith tenant list" has them',
    });
  }

  async #request<N extends Name>(
    name: N,
    { params = {}, query, body }: Call<N>,
    headers: Readonly<Record<string, string>>,
  ): Promise<{ status: number; body: unknown }> {
    const { method, path } = API[name];
    const filled = path.replaceAll(/\{(\w+)\}/g, (_, key: string) => encodeURIComponent(params[key]!));
    const given = Object.entries(query ?? {}).filter(([, value]) => value !== undefined);
    const search = new URLSearchParams(given as [string, string][]).toString();
    const { token } = this.#target;
    const answer = await this.#send(
      method,
      `/v1${filled}${search === "" ? "" : `?${search}`}`,
      { ...headers, ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) },
      body,
    );
    if (answer.status < 400) return answer;
    throw refusal(answer.status, answer.body);
  }

  async #send(
    method: string,
    path: string,
    headers: Readonly<Record<string, string>>,
    body: unknown,
  ): Promise<{ status: number; body: unknown }> {
    const { url, ca } = this.#target;
    const payload = body === undefined ? undefined : JSON.stringify(body);
    const options: RequestOptions = {
      method,
      headers: {
        ...headers,
        ...(payload === undefined
          ? {}
          : { "content-type": "application/json", "content-length": Buffer.byteLength(payload) }),
      },
      timeout: TIMEOUT_MS,
      ...(ca === undefined ? {} : { ca }),
    };
    try {
      const response = await new Promise<IncomingMessage>((resolve, reject) => {
        const send = url.protocol === "https:" ? requestHttps : requestHttp;
        const request = send(new URL(path, url), options, resolve);
        request.on("error", reject);
        request.on("timeout", () => request.destroy(new Error("no answer")));
        request.end(payload);
      });
      const answer = await text(response);
      return { status: response.statusCode!, body: answer === "" ? undefined : parseJson(answer) };
    } catch (error) {
      if (error instanceof ZenithError) throw error;
      throw new ZenithError("unavailable", `${url.origin}: ${errorMessage(error)}`, {
        hint: url.protocol === "https:"
          ? "does zenith serve run there? --ca names its authority's certificate, auth/tls/ca.pem"
          : "does zenith serve run there?",
        cause: error,
      });
    }
  }
}

function parseJson(answer: string): unknown {
  try {
    return JSON.parse(answer);
  } catch {
    throw new ZenithError("protocol", `expected JSON, got ${JSON.stringify(answer.slice(0, 80))}`, {
      hint: "is that the address of zenith serve's API?",
    });
  }
}

/** What a server says in place of a result. */
function refusal(status: number, body: unknown): ZenithError {
  const { code, message, hint } = (body ?? {}) as { code?: string; message?: string; hint?: string | null };
  const kind = ERROR_KINDS.find((kind) => kind === code) ?? KIND_OF_STATUS[status] ?? "io";
  const said = message ?? `the server answered ${status}`;
  const advice = hint ?? (status === 401 ? "--token <token>, --token @file or $ZENITH_TOKEN" : undefined);
  return new ZenithError(kind, said, advice === undefined ? {} : { hint: advice });
}
