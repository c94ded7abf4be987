/** `zenith serve`: the environment's servers, the HTTP API and the Postgres port in one process. */
import { existsSync } from "node:fs";
import { errorMessage, ZenithError } from "../common/errors.ts";
import { formatHostPort, type HostPort, isLoopback } from "../common/host_port.ts";
import type { TenantId } from "../common/id.ts";
import { openFilesLimit } from "../common/open_files.ts";
import { defaultBranch, type Environment, loadEnvironment } from "../control/environment.ts";
import { asksForTokens, ensureCertificateFor } from "../control/server_tokens.ts";
import { Verifier } from "../auth/verifier.ts";
import { openAuditLog } from "../process/audit_log.ts";
import type { Logger } from "../process/log.ts";
import { Guard } from "../protocol/guard.ts";
import type { RoleContext, RunningRole } from "../process/run_role.ts";
import { ServerTls } from "../pgwire/tls.ts";
import { Api } from "./api/api.ts";
import type { ApiContext } from "./api/handlers.ts";
import { ConsoleSite, rootSite } from "./console/console.ts";
import { Idempotency } from "./api/idempotency.ts";
import { MetricsSite } from "./api/metrics.ts";
import { openapiSite } from "./api/openapi.ts";
import { NeonApi } from "./neon/neon.ts";
import { HttpServer } from "./http/server.ts";
import { upgradeToPostgres } from "./sql/socket.ts";
import { Sql } from "./sql/sql.ts";
import { Operations } from "./state/operations.ts";
import { Passwords } from "./state/passwords.ts";
import { AwakeList } from "./fleet/awake.ts";
import { Fleet } from "./fleet/fleet.ts";
import { Poolers } from "./fleet/poolers.ts";
import { Door } from "./proxy/door.ts";
import { Proxy } from "./proxy/proxy.ts";
import { Verifiers } from "./proxy/verifiers.ts";
import { roomFor } from "./room.ts";
import { Servers } from "./servers.ts";
import { Figures } from "./work/figures.ts";
import { Histories } from "./work/histories.ts";
import { Directory } from "./state/directory.ts";
import { State } from "./state/state.ts";
import { Tenants } from "./state/tenants.ts";

export interface ServeOptions {
  readonly root: string;
  readonly http: HostPort;
  readonly postgres: HostPort;
  /** The domain below which each endpoint has its name. */
  readonly domain: string;
  readonly suspendAfterMs: number;
  readonly maxConnections: number;
  /** Sessions of Postgres that clients of a pooler share, for each role and database. */
  readonly poolSize: number;
}

/** What runs, and where its API and its console are. */
export interface RunningServe extends RunningRole {
  readonly url: string;
}

/** Starts all of it. @throws what keeps it from starting */
export async function startServe(options: ServeOptions, role: RoleContext): Promise<RunningServe> {
  const { log } = role;
  const room = roomFor(options.maxConnections, openFilesLimit());
  if (room.isCut) log.warn(`takes ${room.clients} clients, not ${options.maxConnections}: ${room.hint}`);
  const environment = (): Environment => loadEnvironment(options.root);
  const servers = new Servers(environment, log);
  await servers.start((text) => role.progress(text));
  assertProtected(environment(), options);
  await using cleanup = new AsyncDisposableStack();
  const state = cleanup.use(new State(environment().paths.serveState));
  const directory = new Directory(state);
  const tenants = new Tenants(state);
  const awake = new AwakeList(state);
  const poolers = new Poolers({
    directory: environment().paths.poolers,
    log,
    poolSize: options.poolSize,
    maxClients: room.clients,
  });
  cleanup.defer(() => poolers.close());
  const verifiers = new Verifiers();
  const fleet = new Fleet({
    environment,
    awake,
    poolers,
    log,
    suspendAfterMs: options.suspendAfterMs,
    suspendAfterOf: (tenant, branch) => directory.byName(tenant, branch)?.suspendAfterMs ?? null,
    beforeSleep: (compute) => verifiers.beforeSleep(compute),
    afterSleep: (compute) => verifiers.afterSleep(compute),
  });
  const tls = await openTls(environment(), options, log);
  const names = () => {
    const found = environment();
    const defaultTenant: TenantId = found.config.default_tenant_id;
    return {
      directory,
      domain: options.domain,
      defaultTenant,
      defaultBranch: defaultBranch(found, defaultTenant),
    };
  };
  const allowedIps = (tenant: TenantId) => tenants.allowedIps(tenant);
  const door = new Door({ environment, fleet, poolers, verifiers, allowedIps });
  const proxy = new Proxy({
    door,
    names,
    log,
    tls,
    maxConnections: room.clients,
    roomHint: room.hint,
  });
  const postgres = await proxy.listen(options.postgres);
  cleanup.defer(() => proxy.close());
  const guard = await openGuard(environment(), log);
  const context: ApiContext = {
    environment,
    fleet,
    directory,
    tenants,
    operations: new Operations(state),
    passwords: new Passwords(state, environment().paths.serveKey),
    log,
    domain: options.domain,
    postgresPort: postgres.port,
    problems: () => servers.problems(),
    restarts: () => servers.restarts,
    sessions: () => proxy.figures.sessions,
    histories: new Histories(),
    figures: new Figures(),
    awake: () => awake.list().length,
  };
  const sql = new Sql(door, names);
  const isLocal = isLoopback(options.http.host);
  const figures = {
    fleet: fleet.figures,
    proxy: proxy.figures,
    http: () => http.figures,
    maxClients: room.clients,
  };
  const http: HttpServer = new HttpServer({
    sites: [
      new MetricsSite(context, guard, figures),
      new Api(context, guard, new Idempotency(state)),
      new NeonApi(context, guard),
      sql,
      openapiSite(),
      new ConsoleSite(),
      rootSite(),
    ],
    upgrade: (request, socket, head) => upgradeToPostgres(proxy, request, socket, head),
    log,
    tls: isLocal ? undefined : tls,
    maxConnections: room.http,
    isOurs: (host) => guard.asksForTokens || isOwnName(host, options.domain),
  });
  const web = await http.listen(options.http);
  cleanup.defer(() => http.close());
  fleet.start();
  servers.watch();
  const url = `${isLocal ? "http" : "https"}://${formatHostPort(web)}`;
  log.info("serves", { postgres: formatHostPort(postgres), http: url, domain: options.domain });
  const all = cleanup.move();
  return {
    address: postgres,
    url,
    stop: async (mode) => {
      await fleet.end();
      const woken = new Set(
        awake.list().map(({ tenant, name }) => environment().paths.compute(tenant, name).dir),
      );
      try {
        await http.close();
        await proxy.close();
        await poolers.close();
        await servers.stop(mode, ({ paths }) => woken.has(paths.dir));
        for (const { tenant, name } of awake.list()) awake.remove(tenant, name);
      } finally {
        await all.disposeAsync();
      }
    },
  };
}

/**
 * Without tokens, a page in a browser must not get at the API by a name that it has made point to
 * this machine (DNS rebinding).
 */
function isOwnName(host: string, domain: string): boolean {
  const name = host.replace(/:\d+$/, "").replace(/^\[|\]$/g, "").toLowerCase();
  return isLoopback(name) || name === domain || name.endsWith(`.${domain}`);
}

/** Who may use the API: the holders of the environment's tokens. */
async function openGuard(environment: Environment, log: Logger): Promise<Guard> {
  const { paths } = environment;
  const audit = openAuditLog(paths.serveAuditLog);
  if (!asksForTokens(environment)) return Guard.open(audit);
  const verifier = await Verifier.open(paths.auth, (error) => {
    log.error(`could not read the keys or the revoked tokens again: ${errorMessage(error)}`, { err: error });
  });
  return Guard.withTokens(verifier, audit);
}

/**
 * @throws {ZenithError} `invalid_argument` when everybody could reach a port that asks for nothing
 */
function assertProtected(environment: Environment, { http, postgres }: ServeOptions): void {
  if (asksForTokens(environment)) return;
  const open = [http, postgres].find(({ host }) => !isLoopback(host));
  if (open === undefined) return;
  throw new ZenithError(
    "invalid_argument",
    `this environment is insecure, so ${formatHostPort(open)} can't be where it is served`,
    { hint: "listen on 127.0.0.1, or take insecure out of the environment's config and restart it" },
  );
}

/** The certificate is for the domain, and for one label below it. */
async function openTls(
  { paths, config }: Environment,
  { domain, http, postgres }: ServeOptions,
  log: Logger,
): Promise<ServerTls> {
  const { auth } = paths;
  await ensureCertificateFor({ auth, config }, [domain, `*.${domain}`, http.host, postgres.host]);
  const cert = config.tls?.cert ?? auth.serverCertificate;
  const key = config.tls?.key ?? auth.serverKey;
  if (!existsSync(cert)) throw new ZenithError("not_found", `there is no certificate ${cert}`);
  return new ServerTls({
    cert,
    key,
    onError: (error) =>
      log.error(`could not read the certificate again: ${errorMessage(error)}`, { err: error }),
  });
}
