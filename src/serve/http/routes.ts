/** Routes: a method, a path with names in it, who may ask, and what is asked. */
import { type GenericSchema, type InferOutput, safeParse } from "valibot";
import type { Access } from "../../protocol/operation.ts";
import { HttpError } from "./problem.ts";
import { type HttpRequest, readJson } from "./request.ts";

export type Method = "GET" | "POST" | "PATCH" | "DELETE";

/** One request that the API understands. */
export interface Route {
  /** Names it in the audit log and in OpenAPI: `branch_create`. */
  readonly name: string;
  readonly method: Method;
  /** Below the site: `/tenants/{tenant}/branches`. */
  readonly path: string;
  /** What its caller needs; null for requests that anybody with a token may make. */
  readonly access: Access | null;
  readonly summary: string;
  readonly query?: GenericSchema;
  readonly body?: GenericSchema;
  readonly result?: GenericSchema;
  /** Whether it changes something that lasts. */
  readonly changes: boolean;
}

export type ParamsOf = Readonly<Record<string, string>>;
export type QueryOf<R extends Route> = R extends { query: infer S extends GenericSchema } ? InferOutput<S>
  : undefined;
export type BodyOf<R extends Route> = R extends { body: infer S extends GenericSchema } ? InferOutput<S>
  : undefined;

export interface Matched<R extends Route = Route> {
  readonly route: R;
  readonly params: ParamsOf;
}

/** Finds routes by method and path. */
export class Routes<R extends Route> {
  readonly #routes: readonly { readonly route: R; readonly segments: readonly string[] }[];

  constructor(routes: readonly R[]) {
    this.#routes = routes.map((route) => ({ route, segments: route.path.slice(1).split("/") }));
  }

  /** @throws {HttpError} `404`, or `405` with the methods that the path has */
  match(method: string, path: readonly string[]): Matched<R> {
    const allowed: string[] = [];
    for (const { route, segments } of this.#routes) {
      const params = matchPath(segments, path);
      if (params === undefined) continue;
      if (route.method === method) return { route, params };
      allowed.push(route.method);
    }
    if (allowed.length === 0) throw new HttpError(404, "not_found", "there is nothing at this path");
    throw new HttpError(405, "method_not_allowed", `this path has ${allowed.join(", ")}`, {
      allow: allowed.join(", "),
    });
  }
}

function matchPath(segments: readonly string[], path: readonly string[]): ParamsOf | undefined {
  if (segments.length !== path.length) return undefined;
  const params: [string, string][] = [];
  for (const [i, segment] of segments.entries()) {
    const given = path[i]!;
    if (segment.startsWith("{")) {
      if (given === "") return undefined;
      params.push([segment.slice(1, -1), given]);
    } else if (segment !== given) return undefined;
  }
  return Object.fromEntries(params);
}

/** @throws {HttpError} `400`, naming what is wrong */
export function parseInput<S extends GenericSchema>(what: string, schema: S, value: unknown): InferOutput<S> {
  const result = safeParse(schema, value);
  if (result.success) return result.output;
  const [issue] = result.issues;
  const key = issue.path?.map((item) => String(item.key)).join(".") ?? "";
  throw new HttpError(400, "invalid_argument", `${what}${key === "" ? "" : ` ${key}`}: ${issue.message}`);
}

/** What a request says, checked by its route. @throws {HttpError} */
export async function inputOf<R extends Route>(
  route: R,
  request: HttpRequest,
): Promise<{ query: QueryOf<R>; body: BodyOf<R> }> {
  const query = route.query === undefined
    ? undefined
    : parseInput("query", route.query, Object.fromEntries(request.query));
  const body = route.body === undefined
    ? undefined
    : parseInput("body", route.body, await readJson(request) ?? {});
  return { query: query as QueryOf<R>, body: body as BodyOf<R> };
}

/** `limit` and `cursor` of a list, and the items of one page. */
export interface Page<T> {
  readonly items: readonly T[];
  /** Where the next page begins; null on the last one. */
  readonly next: string | null;
}

export const PAGE_DEFAULT = 100;
export const PAGE_MAX = 1_000;

/**
 * Cuts a page out of a list that is ordered by its keys.
 *
 * @throws {HttpError} `400` when the cursor is none
 */
export function pageOf<T>(
  all: readonly T[],
  keyOf: (item: T) => string,
  limit: number,
  cursor: string | undefined,
): Page<T> {
  const sorted = [...all].sort((a, b) => compare(keyOf(a), keyOf(b)));
  const after = cursor === undefined ? undefined : Buffer.from(cursor, "base64url").toString("utf8");
  const from = after === undefined ? 0 : sorted.findIndex((item) => compare(keyOf(item), after) > 0);
  if (from < 0) return { items: [], next: null };
  const items = sorted.slice(from, from + limit);
  const last = items.at(-1);
  const isLast = last === undefined || from + limit >= sorted.length;
  return { items, next: isLast ? null : Buffer.from(keyOf(last)).toString("base64url") };
}

function compare(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}
