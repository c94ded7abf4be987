/** Who has sent a request: the holder of its bearer token. */
import type { Principal } from "../../auth/claims.ts";
import { ZenithError } from "../../common/errors.ts";
import { formatHostPort } from "../../common/host_port.ts";
import type { Client, Guard } from "../../protocol/guard.ts";
import type { Named } from "../../protocol/operation.ts";
import { HttpError } from "./problem.ts";
import type { HttpRequest } from "./request.ts";
import type { Route } from "./routes.ts";

export interface Caller extends Client {
  readonly identity: Principal;
}

/** A JSON web token of ours has some hundred characters. */
const TOKEN_MAX_LENGTH = 4_096;

/** @throws {HttpError} `401` when the request has no token, or none that is good */
export async function callerOf(guard: Guard, request: HttpRequest): Promise<Caller> {
  const remoteAddress = formatHostPort({ host: request.address, port: request.port });
  const match = /^Bearer +([A-Za-z0-9._~+/=-]+)$/i.exec(request.headers.authorization ?? "");
  const token = match?.[1];
  try {
    if ((token?.length ?? 0) > TOKEN_MAX_LENGTH) throw new ZenithError("forbidden", "this is not a token");
    return { identity: await guard.identify(token), remoteAddress };
  } catch (error) {
    if (!(error instanceof ZenithError) || error.kind !== "forbidden") throw error;
    throw new HttpError(401, "unauthorized", error.message, { "www-authenticate": "Bearer" });
  }
}

/**
 * Refuses a caller before its request is read any further, and notes that for a change.
 *
 * @throws {ZenithError} `forbidden`
 */
export async function admit(
  guard: Guard,
  caller: Caller,
  route: Pick<Route, "name" | "access" | "changes">,
  named: Named,
  args: Readonly<Record<string, string>>,
): Promise<void> {
  if (route.access === null || guard.allows(caller, route.access, named)) return;
  await guarded(guard, caller, route, named, args, () => Promise.resolve());
}

/** Runs what a route does, when its caller may; notes it in the audit log when it is a change. */
export async function guarded<T>(
  guard: Guard,
  caller: Caller,
  { name, access, changes }: Pick<Route, "name" | "access" | "changes">,
  named: Named,
  args: Readonly<Record<string, string>>,
  work: () => Promise<T>,
): Promise<T> {
  const checked = async (): Promise<T> => {
    if (access !== null) guard.check(caller, name, access, named);
    return await work();
  };
  if (!changes) return await checked();
  const change = { command: name, tenant: named.tenant ?? null, timelines: [], args };
  return await guard.auditedChange(caller, change, checked);
}
