/**
 * Connects to the page server that has a tenant, where several share tenants. Any of them says
 * which one that is. A connection to one that no longer has the tenant is cut, so that its user
 * connects anew: a page server that stands still would never say so itself.
 */
import { errorMessage, ZenithError } from "../common/errors.ts";
import { formatHostPort, type HostPort, parseHostPort } from "../common/host_port.ts";
import type { TenantId } from "../common/id.ts";
import { inTime } from "../common/in_time.ts";
import type { PgClient } from "../pgwire/client.ts";
import { call } from "./call.ts";
import { PAGE_SERVER } from "./management.ts";

/** How long a page server may take to say where a tenant is. */
const ANSWER_TIMEOUT_MS = 2_000;
/** How often it is asked whether the tenant is still where connections to it go. */
const WATCH_MS = 2_000;

/** How to reach each of the page servers that share a tenant. */
export interface SharedTenant {
  readonly tenant: TenantId;
  readonly servers: readonly HostPort[];
  /** Tells those apart who prove themselves in different ways. */
  readonly who: string;
  /** For questions, which take less than {@link ANSWER_TIMEOUT_MS}. */
  connectToAsk(server: HostPort, signal: AbortSignal): Promise<PgClient>;
}

/** Connections to the page server that has a tenant, and where that was last. */
interface Watched {
  readonly key: string;
  readonly shared: SharedTenant;
  place: HostPort | null;
  readonly lines: Map<PgClient, HostPort>;
  asker: { readonly client: PgClient; readonly server: HostPort } | null;
  timer: ReturnType<typeof setInterval> | null;
  isLooking: boolean;
}

const watched = new Map<string, Watched>();

/**
 * Connects to where the tenant is.
 *
 * @param connect makes the connection
 * @throws {ZenithError} `unavailable` when no page server says where it is; what `connect` throws
 */
export async function connectTenantPlace(
  shared: SharedTenant,
  connect: (server: HostPort) => Promise<PgClient>,
): Promise<PgClient> {
  const known = watchedOf(shared);
  const server = await placeOf(known);
  try {
    const client = await connect(server);
    known.lines.set(client, server);
    watch(known);
    return client;
  } catch (error) {
    known.place = null;
    throw error;
  }
}

function watchedOf(shared: SharedTenant): Watched {
  const key = `${shared.tenant} ${shared.servers.map(formatHostPort)} ${shared.who}`;
  const found = watched.get(key) ??
    { key, shared, place: null, lines: new Map(), asker: null, timer: null, isLooking: false };
  watched.set(key, found);
  return found;
}

/** Asks the page server that had it last whether it still has it; if not, all of them. */
async function placeOf(known: Watched): Promise<HostPort> {
  if (known.place !== null && await isAt(known, known.place)) return known.place;
  known.place = null;
  const { servers, tenant } = known.shared;
  try {
    // What one says may be outdated, so who is named has to confirm it.
    known.place = await Promise.any(servers.map(async (server) => {
      const named = await ask(known.shared, server);
      if (named === null) throw new ZenithError("unavailable", "it does not know");
      const isItself = formatHostPort(named) === formatHostPort(server);
      if (!isItself && formatHostPort(await ask(known.shared, named) ?? server) !== formatHostPort(named)) {
        throw new ZenithError("unavailable", `it names ${formatHostPort(named)}, which does not have it`);
      }
      return named;
    }));
    return known.place;
  } catch (error) {
    const failures = error instanceof AggregateError ? error.errors : [error];
    const forbidden = failures.find((each) => each instanceof ZenithError && each.kind === "forbidden");
    if (forbidden !== undefined) throw forbidden;
    const why = failures.map((each, i) => `${formatHostPort(servers[i]!)}: ${errorMessage(each)}`);
    throw new ZenithError("unavailable", `no page server has tenant ${tenant} now: ${why.join("; ")}`, {
      hint: "another one takes it over within seconds; if none does, their logs say why",
    });
  }
}

/** Asks by a connection that is kept. Never throws. */
async function isAt(known: Watched, server: HostPort): Promise<boolean> {
  const name = formatHostPort(server);
  try {
    const answer = await askBy(await askerOf(known, server), known.shared.tenant, server);
    return answer !== null && formatHostPort(answer) === name;
  } catch {
    dropAsker(known);
    return false;
  }
}

async function askerOf(known: Watched, server: HostPort): Promise<PgClient> {
  const { asker, shared } = known;
  if (asker !== null && !asker.client.closed && asker.server === server) return asker.client;
  dropAsker(known);
  const client = await shared.connectToAsk(server, AbortSignal.timeout(ANSWER_TIMEOUT_MS));
  // Somebody else may have asked meanwhile.
  dropAsker(known);
  known.asker = { client, server };
  return client;
}

function dropAsker(known: Watched): void {
  known.asker?.client.destroy();
  known.asker = null;
}

async function ask(shared: SharedTenant, server: HostPort): Promise<HostPort | null> {
  const client = await shared.connectToAsk(server, AbortSignal.timeout(ANSWER_TIMEOUT_MS));
  try {
    return await askBy(client, shared.tenant, server);
  } finally {
    client.destroy();
  }
}

async function askBy(client: PgClient, tenant: TenantId, server: HostPort): Promise<HostPort | null> {
  const name = `the page server at ${formatHostPort(server)}`;
  const answer = call(client, name, PAGE_SERVER.tenantPlace, { tenant });
  const { server: found } = await inTime(answer, ANSWER_TIMEOUT_MS, `${name} does not answer`);
  return found === null ? null : parseHostPort(found);
}

/** Cuts connections to where the tenant no longer is, for as long as there are any. */
function watch(known: Watched): void {
  if (known.timer !== null) return;
  known.timer = setInterval(() => void look(known), WATCH_MS);
  known.timer.unref();
}

async function look(known: Watched): Promise<void> {
  for (const client of known.lines.keys()) if (client.closed) known.lines.delete(client);
  if (known.lines.size === 0) {
    clearInterval(known.timer!);
    known.timer = null;
    watched.delete(known.key);
    dropAsker(known);
    return;
  }
  if (known.isLooking) return;
  known.isLooking = true;
  try {
    const place = formatHostPort(await placeOf(known));
    for (const [client, server] of known.lines) if (formatHostPort(server) !== place) client.destroy();
  } catch {
    // Nobody has it now. What is connected may still be right.
  } finally {
    known.isLooking = false;
  }
}
