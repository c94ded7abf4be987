/** What each request of Neon's API does here. */
import { ZenithError } from "../../common/errors.ts";
import { parseBranchName, parseTenantId, type TenantId } from "../../common/id.ts";
import { parseLsn } from "../../common/lsn.ts";
import type { BranchPoint } from "../../common/moment.ts";
import { parseTimestamp } from "../../common/timestamp.ts";
import { ZENITH_OWNER } from "../../pg_install/initdb.ts";
import type { Caller } from "../http/caller.ts";
import { HttpError } from "../http/problem.ts";
import { type BodyOf, pageOf, type ParamsOf, type QueryOf, type Route } from "../http/routes.ts";
import type { KnownBranch } from "../state/directory.ts";
import { makeWords } from "../state/names.ts";
import {
  type Branch,
  changeBranch,
  createBranch,
  findBranch,
  listBranches,
  momentOf,
  removeBranch,
  renameBranch,
  restore,
} from "../work/branches.ts";
import { branchNameOf, describeMany, passwordOf, start, stop, uriOf } from "../work/computes.ts";
import type { WorkContext } from "../work/context.ts";
import {
  createDatabase,
  createRole,
  type Database,
  dropDatabase,
  dropRole,
  listDatabases,
  listRoles,
  noRole,
  resetPassword,
  schemaOf,
} from "../work/databases.ts";
import {
  checkAllowedIps,
  createTenant,
  defaultBranchOf,
  findTenant,
  listTenants,
  removeTenant,
  setTenantHistory,
  tenantHistory,
} from "../work/tenants.ts";
import type { NEON } from "./contract.ts";
import {
  branchView,
  connectionView,
  databaseView,
  endpointView,
  operationView,
  ORGANIZATION,
  projectView,
  REGION,
  roleView,
} from "./views.ts";

export interface Call<R extends Route> {
  readonly caller: Caller;
  readonly params: ParamsOf;
  readonly query: QueryOf<R>;
  readonly body: BodyOf<R>;
}

type Handlers = {
  readonly [K in keyof typeof NEON]: (
    context: WorkContext,
    call: Call<(typeof NEON)[K]>,
  ) => Promise<Record<string, unknown>>;
};

const PROJECTS_MAX = 400;
const LIMIT_DEFAULT = 100;

function tenantOf({ tenant = "" }: ParamsOf): TenantId {
  return parseTenantId(tenant);
}

function branchOf(context: WorkContext, params: ParamsOf): Promise<Branch> {
  return findBranch(context, tenantOf(params), params["branch"] ?? "");
}

async function knownOf(context: WorkContext, params: ParamsOf): Promise<KnownBranch> {
  return (await branchOf(context, params)).known;
}

/** @throws {ZenithError} `not_found` for an endpoint of another tenant, too */
function endpointOf(context: WorkContext, params: ParamsOf): KnownBranch {
  const found = context.directory.byEndpoint(params["endpoint"] ?? "");
  if (found !== undefined && found.hasEndpoint && found.tenant === tenantOf(params)) return found;
  throw new ZenithError("not_found", "this project has no such endpoint");
}

async function databaseOf(context: WorkContext, known: KnownBranch, params: ParamsOf): Promise<Database> {
  const found = (await listDatabases(context, known)).find(({ name }) => name === params["database"]);
  if (found === undefined) throw new ZenithError("not_found", "this branch has no such database");
  return found;
}

function limitOf(query: Record<string, string>, max: number): number {
  const text = query["limit"] ?? String(LIMIT_DEFAULT);
  if (!/^[1-9]\d{0,4}$/.test(text)) throw new HttpError(400, "invalid_argument", "limit is not a number");
  return Math.min(Number(text), max);
}

/** In Neon's API, 0 is the default and -1 is for ever. */
function suspendMs(seconds: number): number | null {
  return seconds === 0 ? null : seconds < 0 ? 0 : seconds * 1_000;
}

function lifetimeMs(expiresAt: string): number {
  const left = Date.parse(expiresAt) - Date.now();
  if (Number.isNaN(left) || left <= 0) {
    throw new ZenithError("invalid_argument", "expires_at is no time in the future");
  }
  // A duration has nine digits at most: seconds are enough for thirty years, then minutes.
  const unitMs = left < 900_000_000_000 ? 1_000 : 60_000;
  return Math.ceil(left / unitMs) * unitMs;
}

/** A branch by its id, at an LSN, at a time, or at its end. */
async function pointOf(
  context: WorkContext,
  tenant: TenantId,
  id: string,
  lsn: string | undefined,
  time: string | undefined,
): Promise<BranchPoint> {
  const { name } = await findBranch(context, tenant, id);
  const timestamp = time === undefined ? undefined : parseTimestamp(time, "none");
  return { name, moment: momentOf(lsn === undefined ? undefined : parseLsn(lsn), timestamp) };
}

async function branchAnswer(context: WorkContext, tenant: TenantId, name: string) {
  const all = await listBranches(context, tenant);
  const branch = all.find((found) => found.name === name);
  if (branch === undefined) throw new ZenithError("not_found", `project ${tenant} has no branch ${name}`);
  return { branch: branchView(context, branch, all), operations: [] };
}

async function projectAnswer(context: WorkContext, tenant: TenantId) {
  const found = await findTenant(context, tenant);
  const { pitr_interval } = await tenantHistory(context, tenant);
  return { project: projectView(context, found, { major: found.major, pitrInterval: pitr_interval }) };
}

async function updateProject(
  context: WorkContext,
  tenant: TenantId,
  project: {
    name?: string | undefined;
    settings?: { allowed_ips?: { ips?: string[] | undefined } | undefined } | undefined;
    history_retention_seconds?: number | undefined;
  },
): Promise<void> {
  const ips = project.settings?.allowed_ips?.ips;
  if (ips !== undefined) {
    checkAllowedIps(ips);
    context.tenants.setAllowedIps(tenant, ips);
  }
  if (project.name !== undefined) context.tenants.rename(tenant, project.name);
  const seconds = project.history_retention_seconds;
  if (seconds === undefined) return;
  if (!Number.isInteger(seconds) || seconds < 0) {
    throw new ZenithError("invalid_argument", "history_retention_seconds is no number of seconds");
  }
  await setTenantHistory(context, tenant, { pitrIntervalMs: seconds * 1_000 });
}

export const HANDLERS: Handlers = {
  async me(_context, { caller: { identity } }) {
    return {
      id: identity.jti,
      login: identity.sub,
      name: identity.sub,
      last_name: "",
      email: "",
      image: "",
      auth_accounts: [],
      active_seconds_limit: 0,
      branches_limit: -1,
      compute_seconds_limit: 0,
      max_autoscaling_limit: 1,
      plan: "zenith",
      projects_limit: -1,
    };
  },
  async organizations() {
    const never = "1970-01-01T00:00:00Z";
    return {
      organizations: [{
        id: ORGANIZATION,
        name: "Zenith",
        handle: "zenith",
        plan: "zenith",
        managed_by: "console",
        created_at: never,
        updated_at: never,
      }],
    };
  },
  async regions() {
    return {
      regions: [{ region_id: REGION, name: "This installation", default: true, geo_lat: "0", geo_long: "0" }],
    };
  },
  async projectList(context, { caller: { identity }, query }) {
    const all = identity.scope === "admin"
      ? await listTenants(context)
      : identity.tenant === undefined
      ? []
      : [await findTenant(context, identity.tenant)];
    const search = query["search"];
    const found = search === undefined
      ? all
      : all.filter(({ name, tenant }) => name.includes(search) || tenant === search);
    const { items, next } = pageOf(
      found,
      ({ tenant }) => tenant,
      limitOf(query, PROJECTS_MAX),
      query["cursor"],
    );
    return {
      projects: items.map((project) => projectView(context, project)),
      // Clients go on until a page is empty.
      pagination: {
        cursor: next ?? (items.length === 0 ? "" : Buffer.from(items.at(-1)!.tenant).toString("base64url")),
      },
      applications: {},
      integrations: {},
    };
  },
  async projectShared() {
    return { projects: [], pagination: { cursor: "" } };
  },
  async projectCreate(context, { body: { project } }) {
    const { branch: first = {} } = project;
    const { name: branchName = "main", role_name: role, database_name: database = "postgres" } = first;
    const name = branchName === "main" ? undefined : parseBranchName(branchName);
    const made = await createTenant(context, {
      name: project.name ?? makeWords(),
      major: project.pg_version,
    });
    const { tenant } = made;
    await updateProject(context, tenant, { ...project, name: undefined });
    let [branch] = await listBranches(context, tenant);
    if (name !== undefined) {
      branch = await renameBranch(context, tenant, branch!, name);
      context.tenants.setDefaultBranch(tenant, name);
    }
    const { known } = branch!;
    // The first start makes the passwords that the answer has to have.
    await start(context, tenant, branchNameOf(known));
    if (role !== undefined && role !== ZENITH_OWNER) await createRole(context, known, role, true);
    const owner = role ?? ZENITH_OWNER;
    if (database !== "postgres") await createDatabase(context, known, { name: database, owner });
    const roles = role === undefined || role === ZENITH_OWNER ? [ZENITH_OWNER] : [ZENITH_OWNER, role];
    return {
      ...await projectAnswer(context, tenant),
      branch: branchView(context, branch!, [branch!]),
      endpoints: [endpointView(context, known)],
      databases: [databaseView({ name: database, owner }, known)],
      roles: roles.map((one) => roleView(one, known, passwordOf(context, known, one))),
      operations: [],
      connection_uris: [connectionView(context, known, owner, database)],
    };
  },
  async projectGet(context, { params }) {
    return await projectAnswer(context, tenantOf(params));
  },
  async projectUpdate(context, { params, body }) {
    const { tenant } = await findTenant(context, tenantOf(params));
    await updateProject(context, tenant, body.project);
    return { ...await projectAnswer(context, tenant), operations: [] };
  },
  async projectDelete(context, { params }) {
    const answer = await projectAnswer(context, tenantOf(params));
    await removeTenant(context, tenantOf(params));
    return answer;
  },
  async operationList(context, { params, query }) {
    const { tenant } = await findTenant(context, tenantOf(params));
    const limit = limitOf(query, 1_000);
    const found = context.operations.list(
      tenant,
      limit,
      query["cursor"] === "" ? undefined : query["cursor"],
    );
    return {
      operations: found.map((operation) => operationView(tenant, operation)),
      pagination: { cursor: found.at(-1)?.id ?? "" },
    };
  },
  async operationGet(context, { params }) {
    const found = context.operations.get(params["operation"] ?? "");
    if (found === undefined || found.tenant !== tenantOf(params)) {
      throw new ZenithError("not_found", "this project has no such operation");
    }
    return { operation: operationView(tenantOf(params), found) };
  },
  async connectionUri(context, { params, query }) {
    const tenant = tenantOf(params);
    const endpoint = query["endpoint_id"];
    const known = endpoint === undefined
      ? (await findBranch(context, tenant, query["branch_id"] ?? defaultBranchOf(context, tenant))).known
      : endpointOf(context, { ...params, endpoint });
    const { role_name: role, database_name: database, pooled } = query;
    return { uri: uriOf(context, known, { role, database, isPooled: pooled === "true" }) };
  },
  async branchList(context, { params, query }) {
    const all = await listBranches(context, tenantOf(params));
    const search = query["search"];
    const found = search === undefined
      ? all
      : all.filter(({ name, known }) => name.includes(search) || known.id.includes(search));
    const { items, next } = pageOf(found, ({ name }) => name, limitOf(query, 10_000), query["cursor"]);
    return {
      branches: items.map((branch) => branchView(context, branch, all)),
      annotations: {},
      pagination: { ...(next === null ? {} : { next }), sort_by: "name", sort_order: "asc" },
    };
  },
  async branchCreate(context, { params, body: { branch = {}, endpoints = [] } }) {
    const tenant = tenantOf(params);
    if (branch.init_source === "schema-only") {
      throw new ZenithError("not_implemented", "a branch has its parent's rows: schema-only is not there", {
        hint: 'name a file with "zenith pg start --first-start-sql" that removes them',
      });
    }
    const parent = branch.parent_id ?? defaultBranchOf(context, tenant);
    const made = await createBranch(context, tenant, {
      name: parseBranchName(branch.name ?? makeWords()),
      start: await pointOf(context, tenant, parent, branch.parent_lsn, branch.parent_timestamp),
      lifetimeMs: branch.expires_at === undefined ? undefined : lifetimeMs(branch.expires_at),
    });
    const [endpoint] = endpoints;
    context.directory.setHasEndpoint(made.known.id, endpoint !== undefined);
    if (endpoint?.suspend_timeout_seconds !== undefined) {
      context.directory.setSuspendAfter(made.known.id, suspendMs(endpoint.suspend_timeout_seconds));
    }
    if (branch.protected === true) {
      await changeBranch(context, tenant, branchNameOf(made), { isProtected: true });
    }
    const has = endpoint !== undefined;
    return {
      ...await branchAnswer(context, tenant, made.name),
      endpoints: has ? [endpointView(context, made.known)] : [],
      databases: [],
      roles: [],
      ...(has ? { connection_uris: [connectionView(context, made.known)] } : {}),
    };
  },
  async branchGet(context, { params }) {
    const { name } = await branchOf(context, params);
    const { branch } = await branchAnswer(context, tenantOf(params), name);
    return { branch, annotation: {} };
  },
  async branchUpdate(context, { params, body: { branch: wanted } }) {
    const tenant = tenantOf(params);
    let branch = await branchOf(context, params);
    if (wanted.name !== undefined && wanted.name !== branch.name) {
      const { known } = branch;
      // Postgres is stopped for it: the next client wakes it again.
      await stop(context, tenant, branchNameOf(known), "fast");
      const wasDefault = branch.name === defaultBranchOf(context, tenant);
      branch = await renameBranch(context, tenant, branch, parseBranchName(wanted.name));
      if (wasDefault) context.tenants.setDefaultBranch(tenant, branch.name);
    }
    const name = branchNameOf(branch);
    const { expires_at: expiresAt, protected: isProtected } = wanted;
    await changeBranch(context, tenant, name, {
      isProtected,
      lifetimeMs: typeof expiresAt === "string" ? lifetimeMs(expiresAt) : expiresAt,
    });
    return await branchAnswer(context, tenant, name);
  },
  async branchDelete(context, { params }) {
    const tenant = tenantOf(params);
    const branch = await branchOf(context, params);
    if (branch.name === defaultBranchOf(context, tenant)) {
      throw new ZenithError("conflict", `branch ${branch.name} is the default branch`);
    }
    const answer = await branchAnswer(context, tenant, branch.name);
    await removeBranch(context, tenant, branch, false);
    return answer;
  },
  async branchSetDefault(context, { params }) {
    const branch = await branchOf(context, params);
    context.tenants.setDefaultBranch(tenantOf(params), branch.name);
    return await branchAnswer(context, tenantOf(params), branch.name);
  },
  async branchRestore(context, { params, body }) {
    const tenant = tenantOf(params);
    const branch = await branchOf(context, params);
    const { source_branch_id: source, source_lsn: lsn, source_timestamp: time, preserve_under_name: keep } =
      body;
    const point = await pointOf(context, tenant, source, lsn, time);
    if (point.name === branch.name && keep === undefined) {
      throw new ZenithError(
        "invalid_argument",
        "a branch that goes back in its own history needs preserve_under_name",
      );
    }
    await restore(context, tenant, branch, {
      point,
      keepAs: keep === undefined ? undefined : parseBranchName(keep),
      progress: () => {},
    });
    return await branchAnswer(context, tenant, branch.name);
  },
  async branchSchema(context, { params, query }) {
    const tenant = tenantOf(params);
    const branch = await branchOf(context, params);
    const { name, moment } = await pointOf(context, tenant, branch.name, query["lsn"], query["timestamp"]);
    return {
      sql: await schemaOf(context, tenant, parseBranchName(name), query["db_name"] ?? "postgres", moment),
    };
  },
  async branchEndpoints(context, { params }) {
    const known = await knownOf(context, params);
    return { endpoints: known.hasEndpoint ? [endpointView(context, known)] : [] };
  },
  async databaseList(context, { params }) {
    const known = await knownOf(context, params);
    return {
      databases: (await listDatabases(context, known)).map((database) => databaseView(database, known)),
    };
  },
  async databaseGet(context, { params }) {
    const known = await knownOf(context, params);
    return { database: databaseView(await databaseOf(context, known, params), known) };
  },
  async databaseCreate(context, { params, body: { database } }) {
    const known = await knownOf(context, params);
    const made = await createDatabase(context, known, { name: database.name, owner: database.owner_name });
    return { database: databaseView(made, known), operations: [] };
  },
  async databaseDelete(context, { params }) {
    const known = await knownOf(context, params);
    const found = await databaseOf(context, known, params);
    await dropDatabase(context, known, found.name);
    return { database: databaseView(found, known), operations: [] };
  },
  async roleList(context, { params }) {
    const known = await knownOf(context, params);
    return { roles: (await listRoles(context, known)).map((name) => roleView(name, known)) };
  },
  async roleGet(context, { params }) {
    const known = await knownOf(context, params);
    const name = params["role"] ?? "";
    if (!(await listRoles(context, known)).includes(name)) throw noRole(name);
    return { role: roleView(name, known) };
  },
  async roleCreate(context, { params, body: { role } }) {
    const known = await knownOf(context, params);
    const password = await createRole(context, known, role.name, role.no_login !== true);
    return { role: roleView(role.name, known, password), operations: [] };
  },
  async roleDelete(context, { params }) {
    const known = await knownOf(context, params);
    const name = params["role"] ?? "";
    await dropRole(context, known, name);
    return { role: roleView(name, known), operations: [] };
  },
  async rolePassword(context, { params }) {
    const known = await knownOf(context, params);
    const name = params["role"] ?? "";
    const password = passwordOf(context, known, name);
    if (password !== undefined) return { password };
    throw new ZenithError("not_found", `nobody knows the password of role ${name}`, {
      hint:
        "Zenith has those of zenith_owner, and of roles that were made over the API; reset_password makes another",
    });
  },
  async roleResetPassword(context, { params }) {
    const known = await knownOf(context, params);
    const name = params["role"] ?? "";
    return { role: roleView(name, known, await resetPassword(context, known, name)), operations: [] };
  },
  async endpointList(context, { params }) {
    const tenant = tenantOf(params);
    const all = await listBranches(context, tenant);
    const computeOf = describeMany(context, tenant);
    const endpoints = all.filter(({ known }) => known.hasEndpoint).map(({ known }) =>
      endpointView(context, known, computeOf(branchNameOf(known)))
    );
    return { endpoints };
  },
  async endpointCreate(context, { params, body: { endpoint } }) {
    const tenant = tenantOf(params);
    if (endpoint.type === "read_only") {
      throw new ZenithError(
        "not_implemented",
        "a branch has one endpoint, of type read_write: --type read_write makes it",
        {
          hint: '"zenith pg start <branch> --replica" starts one that only reads',
        },
      );
    }
    const { known } = await findBranch(context, tenant, endpoint.branch_id);
    if (known.hasEndpoint) {
      throw new ZenithError("already_exists", `branch ${known.name} has endpoint ${known.endpoint}`);
    }
    context.directory.setHasEndpoint(known.id, true);
    if (endpoint.suspend_timeout_seconds !== undefined) {
      context.directory.setSuspendAfter(known.id, suspendMs(endpoint.suspend_timeout_seconds));
    }
    return { endpoint: endpointView(context, context.directory.byId(known.id)!), operations: [] };
  },
  async endpointGet(context, { params }) {
    return { endpoint: endpointView(context, endpointOf(context, params)) };
  },
  async endpointUpdate(context, { params, body: { endpoint } }) {
    const known = endpointOf(context, params);
    if (endpoint.suspend_timeout_seconds !== undefined) {
      context.directory.setSuspendAfter(known.id, suspendMs(endpoint.suspend_timeout_seconds));
    }
    return { endpoint: endpointView(context, endpointOf(context, params)), operations: [] };
  },
  async endpointDelete(context, { params }) {
    const known = endpointOf(context, params);
    await stop(context, known.tenant, branchNameOf(known), "fast");
    context.directory.setHasEndpoint(known.id, false);
    return { endpoint: endpointView(context, known), operations: [] };
  },
  async endpointStart(context, { params }) {
    const known = endpointOf(context, params);
    await start(context, known.tenant, branchNameOf(known));
    return { endpoint: endpointView(context, known), operations: [] };
  },
  async endpointSuspend(context, { params }) {
    const known = endpointOf(context, params);
    await stop(context, known.tenant, branchNameOf(known), "fast");
    return { endpoint: endpointView(context, known), operations: [] };
  },
};
