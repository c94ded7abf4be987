/** `/v1`: from a request to what it does, by the contract alone. */
import { parseTenantId } from "../../common/id.ts";
import type { Guard } from "../../protocol/guard.ts";
import type { Named } from "../../protocol/operation.ts";
import { admit, type Caller, callerOf, guarded } from "../http/caller.ts";
import type { HttpRequest, HttpResponse } from "../http/request.ts";
import { type BodyOf, inputOf, type ParamsOf, type Route, Routes } from "../http/routes.ts";
import type { Site } from "../http/server.ts";
import { API } from "./contract.ts";
import { type ApiContext, type Call, HANDLERS } from "./handlers.ts";
import type { Idempotency } from "./idempotency.ts";

const VERSION = "v1";
const RESPOND_ASYNC = /(?:^|,)\s*respond-async\s*(?:,|;|$)/i;

type Name = keyof typeof API;
type Handler = (context: ApiContext, call: Call<Route>) => Promise<unknown>;

interface NamedRoute extends Route {
  readonly key: Name;
}

export class Api implements Site {
  readonly at = [VERSION];
  readonly #context: ApiContext;
  readonly #guard: Guard;
  readonly #idempotency: Idempotency;
  readonly #routes = new Routes<NamedRoute>(
    Object.entries(API).map(([key, route]) => ({ ...(route as Route), key: key as Name })),
  );

  constructor(context: ApiContext, guard: Guard, idempotency: Idempotency) {
    this.#context = context;
    this.#guard = guard;
    this.#idempotency = idempotency;
  }

  async handle(request: HttpRequest): Promise<HttpResponse> {
    const caller = await callerOf(this.#guard, request);
    const { route, params } = this.#routes.match(request.method, request.path.slice(1));
    const named = namedBy(params);
    await admit(this.#guard, caller, route, named, shown(params, undefined));
    const { query, body } = await inputOf(route, request);
    const work = () =>
      guarded(this.#guard, caller, route, named, shown(params, body), () =>
        this.#run(request, route, {
          identity: caller.identity,
          params,
          query: query as never,
          body: body as never,
          signal: request.signal,
        }));
    const key = request.headers["idempotency-key"];
    if (key === undefined || !route.changes) return await work();
    const whole = JSON.stringify([request.method, request.path, [...request.query], body]);
    return await this.#idempotency.once(nameOf(caller), String(key), whole, work);
  }

  async #run(
    request: HttpRequest,
    route: NamedRoute,
    call: Omit<Call<Route>, "progress">,
  ): Promise<HttpResponse> {
    const handler = HANDLERS[route.key] as Handler;
    const run = (progress: (text: string) => void) => handler(this.#context, { ...call, progress });
    if (!route.changes) return answer(route, await run(() => {}));
    const { tenant } = call.params;
    const { id, done } = this.#context.operations.begin({
      tenant: tenant === undefined ? null : parseTenantId(tenant),
      action: route.name,
      branch: this.#branchOf(route, call),
    }, run);
    if (tenant !== undefined && RESPOND_ASYNC.test(String(request.headers["prefer"] ?? ""))) {
      // How it ends is for who asks for the operation.
      done.catch(() => {});
      return {
        status: 202,
        body: { operation_id: id },
        headers: {
          location: `/${VERSION}/tenants/${tenant}/operations/${id}`,
          "preference-applied": "respond-async",
        },
      };
    }
    return answer(route, await done);
  }

  /** The name of the branch that a change is about, for who reads the operations later. */
  #branchOf({ key }: NamedRoute, { params, body }: Omit<Call<Route>, "progress">): string | null {
    if (key === "branchCreate") return (body as unknown as BodyOf<(typeof API)["branchCreate"]>).name;
    const { branch } = params;
    if (branch === undefined) return null;
    return this.#context.directory.byId(branch)?.name ?? branch;
  }
}

function answer({ method, result, changes }: Route, body: unknown): HttpResponse {
  if (result === undefined) return { status: 204 };
  return { status: method === "POST" && changes ? 201 : 200, body };
}

/**
 * What a token may restrict: the tenant of the path. A tenant's timelines are never named one by
 * one.
 */
function namedBy(params: ParamsOf): Named {
  return params["tenant"] === undefined ? {} : { tenant: parseTenantId(params["tenant"]) };
}

/** For the audit log. Nothing that the API takes is secret. */
function shown(params: ParamsOf, body: unknown): Record<string, string> {
  const { tenant: _, ...rest } = params;
  const given = typeof body === "object" && body !== null
    ? Object.entries(body).filter(([, value]) => value !== undefined).map(([key, value]) =>
      [key, typeof value === "string" ? value : JSON.stringify(value)] as const
    )
    : [];
  return { ...rest, ...Object.fromEntries(given) };
}

function nameOf({ identity }: Caller): string {
  return identity.jti;
}
