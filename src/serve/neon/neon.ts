/** `/api/v2`: Neon's API, for Neon's clients. */
import { parseTenantId } from "../../common/id.ts";
import type { Guard } from "../../protocol/guard.ts";
import { admit, callerOf, guarded } from "../http/caller.ts";
import type { HttpRequest, HttpResponse } from "../http/request.ts";
import { inputOf, type Route, Routes } from "../http/routes.ts";
import type { Site } from "../http/server.ts";
import type { WorkContext } from "../work/context.ts";
import { NEON } from "./contract.ts";
import { type Call, HANDLERS } from "./handlers.ts";

type Name = keyof typeof NEON;
type Handler = (context: WorkContext, call: Call<Route>) => Promise<Record<string, unknown>>;

interface NamedRoute extends Route {
  readonly key: Name;
}

export class NeonApi implements Site {
  readonly at = ["api", "v2"];
  readonly #context: WorkContext;
  readonly #guard: Guard;
  readonly #routes = new Routes<NamedRoute>(
    Object.entries(NEON).map(([key, route]) => ({ ...(route as Route), key: key as Name })),
  );

  constructor(context: WorkContext, guard: Guard) {
    this.#context = context;
    this.#guard = guard;
  }

  async handle(request: HttpRequest): Promise<HttpResponse> {
    const caller = await callerOf(this.#guard, request);
    const { route, params } = this.#routes.match(request.method, request.path.slice(2));
    const tenant = params["tenant"] === undefined ? undefined : parseTenantId(params["tenant"]);
    const { tenant: _, ...args } = params;
    const named = tenant === undefined ? {} : { tenant };
    await admit(this.#guard, caller, route, named, args);
    const { query, body } = await inputOf(route, request);
    const handler = HANDLERS[route.key] as Handler;
    const run = () => handler(this.#context, { caller, params, query: query as never, body: body as never });
    const answer = await guarded(this.#guard, caller, route, named, args, async () => {
      if (!route.changes) return await run();
      const { branch = null } = params;
      const { done } = this.#context.operations.begin(
        { tenant: tenant ?? null, action: route.name, branch },
        run,
      );
      return await done;
    });
    return { status: route.method === "POST" ? 201 : 200, body: answer };
  }
}
