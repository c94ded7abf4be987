/** What each request of `/v1` does. */
import type { GenericSchema, InferInput } from "valibot";
import type { Principal } from "../../auth/claims.ts";
import { ZenithError } from "../../common/errors.ts";
import { parseDuration } from "../../common/duration.ts";
import { formatHostPort } from "../../common/host_port.ts";
import { parseBranchName, parseTenantId, type TenantId } from "../../common/id.ts";
import { formatLsn, parseLsn } from "../../common/lsn.ts";
import { parseTimestamp } from "../../common/timestamp.ts";
import { VERSION } from "../../common/version.ts";
import type { Past } from "../../control/moments.ts";
import { hasLocalPageServer, pageServerAddress } from "../../control/environment.ts";
import { isPageServerRunning } from "../../control/page_server_process.ts";
import { listSafekeepers } from "../../control/safekeepers.ts";
import { surveyEnvironment } from "../../control/survey/survey.ts";
import { createToken, listTokens, revokeToken } from "../../control/tokens.ts";
import { type BodyOf, pageOf, type ParamsOf, type QueryOf, type Route } from "../http/routes.ts";
import {
  type Branch,
  changeBranch,
  createBranch,
  findBranch,
  listBranches,
  parentPoint,
  parsePoint,
  removeBranch,
  renameBranch,
  restore,
} from "../work/branches.ts";
import { readAudit } from "../work/audit.ts";
import { walOf } from "../work/wal_over_time.ts";
import { branchNameOf, settingsOf, start, stop, uriOf } from "../work/computes.ts";
import { withPageServer, type WorkContext } from "../work/context.ts";
import { type DiffRequest, diffRows, diffSchema, diffTables, pointView } from "../work/diffs.ts";
import type { Figures } from "../work/figures.ts";
import type { Histories } from "../work/histories.ts";
import { layersOf, readsOfPage } from "../work/layers.ts";
import { readLog } from "../work/logs.ts";
import {
  checkAllowedIps,
  createTenant,
  findTenant,
  listTenants,
  removeTenant,
  setTenantHistory,
} from "../work/tenants.ts";
import { API } from "./contract.ts";
import {
  branchView,
  branchViews,
  computeView,
  figuresView,
  operationView,
  tenantView,
  timeOf,
  tokenView,
} from "./views.ts";

/** What the API reports besides the work's own context. */
export interface ApiContext extends WorkContext {
  readonly problems: () => readonly { name: string; attempts: number; error: string }[];
  readonly restarts: () => number;
  readonly histories: Histories;
  readonly figures: Figures;
  readonly sessions: () => number;
  readonly awake: () => number;
}

export interface Call<R extends Route> {
  readonly identity: Principal;
  readonly params: ParamsOf;
  readonly query: QueryOf<R>;
  readonly body: BodyOf<R>;
  readonly progress: (text: string) => void;
  /** Aborted when the client has gone. */
  readonly signal: AbortSignal;
}

type ResultOf<R extends Route> = R extends { result: infer S extends GenericSchema } ? InferInput<S> : void;

type Handlers = {
  readonly [K in keyof typeof API]: (
    context: ApiContext,
    call: Call<(typeof API)[K]>,
  ) => Promise<ResultOf<(typeof API)[K]>>;
};

/** @throws {ZenithError} `invalid_argument` */
export function tenantOf({ tenant = "" }: ParamsOf): TenantId {
  return parseTenantId(tenant);
}

function branchOf(context: WorkContext, params: ParamsOf): Promise<Branch> {
  return findBranch(context, tenantOf(params), params["branch"] ?? "");
}

/** Null and undefined are themselves. @throws {ZenithError} `invalid_argument` */
function durationOf<N extends null | undefined>(text: string | N): number | N {
  return typeof text === "string" ? parseDuration(text) : text;
}

/** A branch as it is now, with its parent's name. */
async function view(context: WorkContext, tenant: TenantId, name: string) {
  const all = await listBranches(context, tenant);
  const branch = all.find((found) => found.name === name);
  if (branch === undefined) throw new ZenithError("not_found", `tenant ${tenant} has no branch ${name}`);
  return branchView(context, branch, new Map(all.map(({ timeline_id, name }) => [timeline_id, name])));
}

function diffRequest(
  { params, query: { from, to, database }, signal }: Pick<
    Call<(typeof API)["diffTables"]>,
    "params" | "query" | "signal"
  >,
): DiffRequest {
  return { tenant: tenantOf(params), from, to, database, signal };
}

function pointsView([from, to]: readonly [Past, Past]) {
  return { from: pointView(from), to: pointView(to) };
}

export const HANDLERS: Handlers = {
  session(_context, { identity: { sub, scope, tenant, exp } }) {
    return Promise.resolve({
      name: sub,
      scope,
      tenant_id: tenant ?? null,
      expires_at: exp === undefined ? null : timeOf(exp),
    });
  },
  async health(context) {
    const { problems, disk_free_bytes, disk_total_bytes } = await surveyEnvironment(context.environment());
    return { problems: [...problems], disk_free_bytes, disk_total_bytes };
  },
  async status(context) {
    const environment = context.environment();
    return {
      version: VERSION,
      servers: [
        ...(hasLocalPageServer(environment)
          ? [{
            name: "page server",
            running: isPageServerRunning(environment),
            address: formatHostPort(pageServerAddress(environment)),
          }]
          : []),
        ...listSafekeepers(environment).map(({ id, running, address }) => ({
          name: `safekeeper ${id}`,
          running,
          address: formatHostPort(address),
        })),
      ],
      computes_awake: context.awake(),
      sessions: context.sessions(),
      restarts: context.restarts(),
      problems: [...context.problems()],
    };
  },
  async tenantList(context, { query: { limit, cursor } }) {
    const all = await listTenants(context);
    const { items, next } = pageOf(all, ({ tenant }) => tenant, limit, cursor);
    return {
      items: items.map(({ tenant, name, createdAt }) => ({ id: tenant, name, created_at: createdAt })),
      next,
    };
  },
  async tenantCreate(context, { body }) {
    const tenant = await createTenant(context, {
      id: body.id === undefined ? undefined : parseTenantId(body.id),
      name: body.name,
      major: body.pg_version,
      cluster: {
        locale: body.locale,
        encoding: body.encoding,
        icuLocale: body.icu_locale,
        dataChecksums: body.data_checksums,
      },
    });
    return await tenantView(context, tenant);
  },
  async tenantGet(context, { params }) {
    return await tenantView(context, await findTenant(context, tenantOf(params)));
  },
  async tenantUpdate(context, { params, body }) {
    const { tenant } = await findTenant(context, tenantOf(params));
    if (body.allowed_ips !== undefined) {
      checkAllowedIps(body.allowed_ips);
      context.tenants.setAllowedIps(tenant, body.allowed_ips);
    }
    if (body.name !== undefined) context.tenants.rename(tenant, body.name);
    const { gc_horizon_bytes, pitr_interval } = body.history ?? {};
    if (gc_horizon_bytes !== undefined || pitr_interval !== undefined) {
      await setTenantHistory(context, tenant, {
        ...(gc_horizon_bytes === undefined ? {} : { gcHorizonBytes: gc_horizon_bytes }),
        ...(pitr_interval === undefined ? {} : { pitrIntervalMs: parseDuration(pitr_interval) }),
      });
    }
    return await tenantView(context, await findTenant(context, tenant));
  },
  async tenantDelete(context, { params }) {
    const { tenant } = await findTenant(context, tenantOf(params));
    await removeTenant(context, tenant);
  },
  async tenantHistory(context, { params, query: { limit, cursor } }) {
    const tenant = tenantOf(params);
    const { items, next } = pageOf(await listBranches(context, tenant), ({ name }) => name, limit, cursor);
    return { items: await context.histories.of(context, tenant, items), next };
  },
  async branchList(context, { params, query: { limit, cursor } }) {
    const tenant = tenantOf(params);
    const all = await listBranches(context, tenant);
    const { items, next } = pageOf(all, ({ name }) => name, limit, cursor);
    return { items: branchViews(context, tenant, all, items), next };
  },
  async branchCreate(context, { params, body }) {
    const tenant = tenantOf(params);
    const branch = await createBranch(context, tenant, {
      name: parseBranchName(body.name),
      start: parsePoint(context, tenant, body.start),
      lifetimeMs: durationOf(body.expires_in),
    });
    if (body.suspend_after !== undefined) {
      context.directory.setSuspendAfter(branch.known.id, parseDuration(body.suspend_after));
    }
    return await view(context, tenant, branch.name);
  },
  async branchGet(context, { params }) {
    const { name } = await branchOf(context, params);
    return await view(context, tenantOf(params), name);
  },
  async branchUpdate(context, { params, body }) {
    const tenant = tenantOf(params);
    let branch = await branchOf(context, params);
    if (body.name !== undefined && body.name !== branch.name) {
      branch = await renameBranch(context, tenant, branch, parseBranchName(body.name));
    }
    const name = branchNameOf(branch);
    const { protected: isProtected, expires_in: expiresIn, suspend_after: suspendAfter } = body;
    const lifetimeMs = durationOf(expiresIn);
    await changeBranch(context, tenant, name, { isProtected, lifetimeMs });
    const suspendAfterMs = durationOf(suspendAfter);
    if (suspendAfterMs !== undefined) context.directory.setSuspendAfter(branch.known.id, suspendAfterMs);
    return await view(context, tenant, name);
  },
  async branchDelete(context, { params, query }) {
    const branch = await branchOf(context, params);
    return { deleted: [...await removeBranch(context, tenantOf(params), branch, query.cascade === "true")] };
  },
  async branchRestore(context, { params, body, progress }) {
    const tenant = tenantOf(params);
    const branch = await branchOf(context, params);
    const point = parsePoint(context, tenant, body.source);
    const keepAs = body.keep_as === undefined ? undefined : parseBranchName(body.keep_as);
    await restore(context, tenant, branch, { point, keepAs, progress });
    return await view(context, tenant, branch.name);
  },
  async branchReset(context, { params, body, progress }) {
    const tenant = tenantOf(params);
    const branch = await branchOf(context, params);
    const keepAs = body.keep_as === undefined ? undefined : parseBranchName(body.keep_as);
    await restore(context, tenant, branch, { point: parentPoint(branch), keepAs, progress });
    return await view(context, tenant, branch.name);
  },
  async branchHistory(context, { params }) {
    const tenant = tenantOf(params);
    const { timeline_id } = await branchOf(context, params);
    const parts = await withPageServer(context, (client) => client.timelineHistory(tenant, timeline_id));
    return {
      items: parts.map(({ timeline_id, lsn, time, kept_from_lsn, kept_from, first_moment }) => ({
        timeline_id,
        lsn: formatLsn(lsn),
        time,
        kept_from_lsn: formatLsn(kept_from_lsn),
        kept_from: first_moment ?? kept_from,
      })),
    };
  },
  async branchWal(context, { params, query }) {
    const from = Date.parse(query.from);
    const to = Date.parse(query.to);
    if (!(from < to)) {
      throw new ZenithError("invalid_argument", "from and to are no span of time", {
        hint: "each is a time such as 2026-11-22T09:30:00Z, from before to",
      });
    }
    const items = await walOf(context, tenantOf(params), await branchOf(context, params), {
      from,
      to,
      points: query.points,
    });
    return { items };
  },
  async branchLayers(context, { params }) {
    const tenant = tenantOf(params);
    return { items: await layersOf(context, tenant, await branchOf(context, params)) };
  },
  async branchPage(context, { params, query }) {
    const tenant = tenantOf(params);
    const branch = await branchOf(context, params);
    const at = query.lsn === undefined ? undefined : parseLsn(query.lsn);
    return await readsOfPage(context, tenant, branch, { ...query, lsn: at });
  },
  async branchLsn(context, { params, query }) {
    const tenant = tenantOf(params);
    const { timeline_id } = await branchOf(context, params);
    const timestamp = parseTimestamp(query.time, "none");
    const found = await withPageServer(context, (client) => client.lsnAt(tenant, timeline_id, timestamp));
    return { lsn: formatLsn(found.lsn), timeline_id: found.timeline_id };
  },
  async diffSchema(context, call) {
    const { points, lines } = await diffSchema(context, diffRequest(call));
    return { ...pointsView(points), lines };
  },
  async diffTables(context, call) {
    const { points, tables, sequences } = await diffTables(context, diffRequest(call));
    return {
      ...pointsView(points),
      tables: tables.map((table) => ({ ...table, notes: [...table.notes] })),
      sequences: [...sequences],
    };
  },
  async diffRows(context, call) {
    const { table, limit } = call.query;
    const found = await diffRows(context, diffRequest(call), table, limit);
    return {
      ...pointsView(found.points),
      columns: found.table?.columns.map(({ name }) => name) ?? [],
      key: found.table?.key.map(({ name }) => name) ?? [],
      notes: [...found.table?.notes ?? []],
      rows: found.rows.map(({ before, after }) => ({
        before: before === null ? null : [...before],
        after: after === null ? null : [...after],
      })),
      has_more: found.hasMore,
    };
  },
  async computeGet(context, { params }) {
    return computeView(context, await branchOf(context, params));
  },
  async computeStart(context, { params }) {
    const branch = await branchOf(context, params);
    await start(context, tenantOf(params), branchNameOf(branch));
    return computeView(context, branch);
  },
  async computeStop(context, { params, body }) {
    const branch = await branchOf(context, params);
    await stop(context, tenantOf(params), branchNameOf(branch), body.mode);
    return computeView(context, branch);
  },
  async computeUri(context, { params, query }) {
    const { known } = await branchOf(context, params);
    const { role, database, pooled } = query;
    return { uri: uriOf(context, known, { role, database, isPooled: pooled === "true" }) };
  },
  async computeFigures(context, { params }) {
    const branch = await branchOf(context, params);
    const found = await context.figures.of(context, tenantOf(params), branch);
    return { at: new Date().toISOString(), figures: found === null ? null : figuresView(found) };
  },
  async computeLog(context, { params, query: { source, limit, after } }) {
    const branch = await branchOf(context, params);
    const { lines, cursor } = readLog(context, tenantOf(params), branch, {
      source,
      cursor: after,
      count: limit,
    });
    return { lines: [...lines], cursor };
  },
  async branchSettings(context, { params }) {
    const settings = await settingsOf(context, tenantOf(params), await branchOf(context, params));
    const items = [...settings].map(([name, value]) => ({ name, value }));
    return { items: items.sort((a, b) => a.name < b.name ? -1 : 1) };
  },
  async operationList(context, { params, query: { limit, cursor } }) {
    const { tenant } = await findTenant(context, tenantOf(params));
    const items = context.operations.list(tenant, limit, cursor);
    return { items: items.map(operationView), next: items.length < limit ? null : items.at(-1)!.id };
  },
  async operationGet(context, { params }) {
    const found = context.operations.get(params["operation"] ?? "");
    if (found !== undefined && found.tenant === tenantOf(params)) return operationView(found);
    throw new ZenithError("not_found", "this tenant has no such operation");
  },
  auditList(context, { query: { limit, source } }) {
    const items = readAudit(context, source, limit);
    return Promise.resolve({
      items: items.map(({ timelines: _, tenant, args, ...entry }) => ({
        time: entry.time,
        source: entry.source,
        token: entry.token,
        for: entry.for,
        scope: entry.scope,
        client: entry.client,
        command: entry.command,
        tenant_id: tenant,
        args: { ...args },
        outcome: entry.outcome,
        error: entry.error,
      })),
    });
  },
  async followList(context) {
    return await withPageServer(context, async (client) => {
      const follows = await client.followList();
      const items = [];
      for (const { wal_timeline: _, ...follow } of follows) {
        const branch = await client.findBranch(follow.tenant_id, follow.timeline_id);
        items.push({ ...follow, last_lsn: branch === undefined ? null : formatLsn(branch.latest_valid_lsn) });
      }
      return { items };
    });
  },
  async transferList(context) {
    return await withPageServer(context, async (client) => {
      const items = (await client.transferList()).map((transfer) => ({
        ...transfer,
        status: transfer.ended_at === null
          ? "running" as const
          : transfer.error === null
          ? "finished" as const
          : "failed" as const,
      }));
      return { items };
    });
  },
  async uploadStatus(context) {
    const found = await withPageServer(context, (client) => client.objectStoreStatus());
    if (found === null) return { store: null };
    const { url, requests, retries, sent_bytes, received_bytes, tenants } = found;
    return {
      store: {
        url,
        requests_total: requests,
        retries_total: retries,
        sent_bytes_total: sent_bytes,
        received_bytes_total: received_bytes,
        tenants: tenants.map(({ tenant_id, pending_bytes, pending_since, error }) => ({
          tenant_id,
          pending_bytes,
          pending_since,
          error,
        })),
      },
    };
  },
  async tokenList(context, { query: { limit, cursor } }) {
    const all = listTokens(context.environment().paths.auth);
    const { items, next } = pageOf(all, ({ claims }) => claims.jti, limit, cursor);
    return { items: items.map(tokenView), next };
  },
  async tokenCreate(context, { body }) {
    const { text, claims } = await createToken(context.environment().paths.auth, body.name, {
      scope: body.scope,
      ...(body.tenant_id === undefined ? {} : { tenant: parseTenantId(body.tenant_id) }),
    }, parseDuration(body.expires_in));
    return { id: claims.jti, token: text };
  },
  async tokenRevoke(context, { params }) {
    await revokeToken(context.environment().paths.auth, params["token"] ?? "");
  },
};
