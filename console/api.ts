/**
 * Requests to `/v1` and `/sql`, typed by the contract of the API. Whatever the console does goes
 * through here, so `curl` can do it too.
 */
import type { API } from "../src/serve/api/contract.ts";
import type {
  BodyOf,
  Branch,
  BranchTimes,
  ListedTenant,
  Name,
  QueryOf,
  ResultOf,
  Session,
  Token,
} from "./contract.ts";
import { createStore } from "./store.ts";

/** What the console asks for. The types say whether the contract has it. */
const ROUTES = {
  session: "GET /session",
  health: "GET /health",
  status: "GET /status",
  tenantList: "GET /tenants",
  tenantCreate: "POST /tenants",
  tenantGet: "GET /tenants/{tenant}",
  tenantDelete: "DELETE /tenants/{tenant}",
  tenantHistory: "GET /tenants/{tenant}/history",
  branchList: "GET /tenants/{tenant}/branches",
  branchCreate: "POST /tenants/{tenant}/branches",
  branchGet: "GET /tenants/{tenant}/branches/{branch}",
  branchUpdate: "PATCH /tenants/{tenant}/branches/{branch}",
  branchDelete: "DELETE /tenants/{tenant}/branches/{branch}",
  branchRestore: "POST /tenants/{tenant}/branches/{branch}/restore",
  branchReset: "POST /tenants/{tenant}/branches/{branch}/reset",
  diffSchema: "GET /tenants/{tenant}/diff/schema",
  diffTables: "GET /tenants/{tenant}/diff/tables",
  diffRows: "GET /tenants/{tenant}/diff/rows",
  branchHistory: "GET /tenants/{tenant}/branches/{branch}/history",
  branchWal: "GET /tenants/{tenant}/branches/{branch}/wal",
  branchLayers: "GET /tenants/{tenant}/branches/{branch}/layers",
  branchPage: "GET /tenants/{tenant}/branches/{branch}/page",
  branchLsn: "GET /tenants/{tenant}/branches/{branch}/lsn",
  computeStart: "POST /tenants/{tenant}/branches/{branch}/compute/start",
  computeStop: "POST /tenants/{tenant}/branches/{branch}/compute/stop",
  computeUri: "GET /tenants/{tenant}/branches/{branch}/compute/uri",
  computeFigures: "GET /tenants/{tenant}/branches/{branch}/compute/figures",
  computeLog: "GET /tenants/{tenant}/branches/{branch}/compute/log",
  branchSettings: "GET /tenants/{tenant}/branches/{branch}/settings",
  operationList: "GET /tenants/{tenant}/operations",
  auditList: "GET /audit",
  followList: "GET /follows",
  transferList: "GET /transfers",
  uploadStatus: "GET /uploads",
  tokenList: "GET /tokens",
  tokenCreate: "POST /tokens",
  tokenRevoke: "DELETE /tokens/{token}",
} as const satisfies { [K in Name]?: `${(typeof API)[K]["method"]} ${(typeof API)[K]["path"]}` };

type Asked = keyof typeof ROUTES;

/** What was thrown, which may be anything. */
export const toError = (error: unknown): Error => error instanceof Error ? error : new Error(String(error));

/** What the API has refused, in its own words. */
export class ApiError extends Error {
  override name = "ApiError";
  readonly status: number;
  readonly code: string;
  readonly hint: string | null;

  constructor(status: number, body: { code?: string; message?: string; hint?: string }) {
    super(body.message ?? `the server answered ${status}`);
    this.status = status;
    this.code = body.code ?? "";
    this.hint = body.hint ?? null;
  }
}

/** There is no answer: the server, or the way to it, is down. */
export class AwayError extends Error {
  override name = "AwayError";
}

/** Whether the last request got an answer. */
export const connection = createStore<"there" | "away">("there");

/**
 * `unknown` until the server has said whether it knows us; `ended` when the token that we had is
 * not good any more.
 */
export type Access =
  | { readonly kind: "unknown" }
  | { readonly kind: "none" }
  | { readonly kind: "in"; readonly session: Session }
  | { readonly kind: "ended"; readonly session: Session; readonly why: string };

export const access = createStore<Access>({ kind: "unknown" });

/**
 * A tab's own. No request carries it by itself, as one would carry a cookie, so no other page can
 * use it.
 */
const TOKEN_KEY = "zenith.token";

let token = sessionStorage.getItem(TOKEN_KEY);

interface Options<K extends Asked> {
  readonly query?: QueryOf<K>;
  readonly body?: BodyOf<K>;
  readonly signal?: AbortSignal;
}

/**
 * @param params what the path names
 * @throws {ApiError} @throws {AwayError}
 */
export async function call<K extends Asked>(
  name: K,
  params: Readonly<Record<string, string>> = {},
  { query, body, signal }: Options<K> = {},
): Promise<ResultOf<K>> {
  const [method = "", template = ""] = ROUTES[name].split(" ");
  const path = template.replace(/\{(\w+)\}/g, (_, key: string) => encodeURIComponent(params[key] ?? ""));
  const search = new URLSearchParams(query as Record<string, string> | undefined).toString();
  const response = await send(`/v1${path}${search === "" ? "" : `?${search}`}`, {
    method,
    headers: {
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    ...(signal === undefined ? {} : { signal }),
  });
  if (response.ok) return (response.status === 204 ? undefined : await response.json()) as ResultOf<K>;
  const error = new ApiError(response.status, await response.json().catch(() => ({})));
  const now = access.get();
  if (error.status === 401 && now.kind === "in") {
    access.set({ kind: "ended", session: now.session, why: error.message });
  }
  throw error;
}

/** What Prometheus gets: text, as https://prometheus.io/docs/instrumenting/exposition_formats has it. */
export async function metrics(): Promise<string> {
  const response = await send("/metrics", {
    headers: token === null ? {} : { authorization: `Bearer ${token}` },
  });
  if (response.ok) return await response.text();
  throw new ApiError(response.status, await response.json().catch(() => ({})));
}

interface Lists {
  readonly branchList: Branch;
  readonly tenantHistory: BranchTimes;
  readonly tenantList: ListedTenant;
  readonly tokenList: Token;
}

/** All pages of a list. @param onPage gets each as it comes */
export async function callAll<K extends keyof Lists>(
  name: K,
  params: Readonly<Record<string, string>>,
  limit = 1_000,
  onPage: (items: readonly Lists[K][]) => void = () => {},
): Promise<Lists[K][]> {
  const all: Lists[K][] = [];
  for (let cursor: string | null = null;;) {
    const query = { limit: String(limit), ...(cursor === null ? {} : { cursor }) };
    const page = await call(name, params, { query: query as QueryOf<K> }) as {
      items: readonly Lists[K][];
      next: string | null;
    };
    all.push(...page.items);
    onPage(page.items);
    cursor = page.next;
    if (cursor === null) return all;
  }
}

async function send(url: string, init: RequestInit): Promise<Response> {
  try {
    const response = await fetch(url, { ...init, cache: "no-store", credentials: "omit" });
    connection.set("there");
    return response;
  } catch (error) {
    if (init.signal?.aborted) throw error;
    connection.set("away");
    throw new AwayError("no answer from the server");
  }
}

/** Finds out whether the token that the tab has is good, or none is wanted. */
export async function resume(): Promise<void> {
  try {
    access.set({ kind: "in", session: await call("session") });
  } catch (error) {
    // Away: it is asked again.
    if (error instanceof AwayError) return;
    if (error instanceof ApiError && error.status === 401) leave();
    else access.set({ kind: "none" });
  }
}

/** @throws {ApiError} when the token is not good */
export async function logIn(text: string): Promise<void> {
  const before = token;
  token = text.trim();
  try {
    const session = await call("session");
    sessionStorage.setItem(TOKEN_KEY, token);
    access.set({ kind: "in", session });
  } catch (error) {
    token = before;
    throw error;
  }
}

export function leave(): void {
  token = null;
  sessionStorage.removeItem(TOKEN_KEY);
  access.set({ kind: "none" });
}

export interface SqlResult {
  readonly command: string;
  readonly rowCount: number | null;
  readonly fields: readonly { readonly name: string; readonly dataTypeID: number }[];
  readonly rows: readonly (readonly (string | null)[])[];
}

/** What Postgres says is wrong. */
export class SqlError extends Error {
  override name = "SqlError";
  readonly code: string | null;
  readonly detail: string | null;
  readonly hint: string | null;
  /** In characters of the statement, from 1. */
  readonly position: number | null;

  constructor(body: Record<string, string | null>) {
    super(body["message"] ?? "the statement failed");
    this.code = body["code"] ?? null;
    this.detail = body["detail"] ?? null;
    this.hint = body["hint"] ?? null;
    this.position = body["position"] === null || body["position"] === undefined
      ? null
      : Number(body["position"]);
  }
}

/**
 * Runs one statement, in a session of its own.
 *
 * @param uri the branch's connection string
 * @param moment RFC 3339 or an LSN; undefined for the present
 */
export async function sql(
  uri: string,
  statement: string,
  moment?: string,
  signal?: AbortSignal,
): Promise<SqlResult> {
  const url = new URL(uri);
  if (moment !== undefined) {
    const kind = /^[0-9a-f]+\/[0-9a-f]+$/i.test(moment) ? "neon_lsn" : "neon_timestamp";
    url.searchParams.set("options", `${kind}:${moment}`);
  }
  const response = await send("/sql", {
    method: "POST",
    headers: {
      "content-type": "application/json",
      "neon-connection-string": url.href,
      "neon-raw-text-output": "true",
      "neon-array-mode": "true",
    },
    body: JSON.stringify({ query: statement, params: [] }),
    ...(signal === undefined ? {} : { signal }),
  });
  const body = await response.json();
  if (!response.ok) throw new SqlError(body);
  return body;
}
