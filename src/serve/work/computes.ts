/** What can be done with the computes of branches. */
import { ownName } from "../../common/compute_name.ts";
import { type BranchName, parseBranchName, type TenantId } from "../../common/id.ts";
import { currentSettings } from "../../control/branch_settings.ts";
import { describeCompute } from "../../control/computes.ts";
import type { BranchInfo } from "../../control/page_server_client.ts";
import { type ComputePlace, findComputePlace, isUp, listPlaces } from "../../control/compute_places.ts";
import { describeFailure, readLastStart } from "../../control/last_start.ts";
import { ZENITH_OWNER, ZENITH_SUPERUSER } from "../../pg_install/initdb.ts";
import { rolePasswords } from "../../compute/postgres/role_passwords.ts";
import type { StopMode } from "../../control/stop_process.ts";
import { ZenithError } from "../../common/errors.ts";
import type { KnownBranch } from "../state/directory.ts";
import { withPageServer, type WorkContext } from "./context.ts";

/** As clients see it: `asleep` until somebody connects. */
export type ComputeState = "awake" | "asleep" | "crashed";

export interface Compute {
  readonly state: ComputeState;
  /** Sessions that go through the proxy. */
  readonly sessions: number;
  /** Why the last start failed; null when it did not. */
  readonly failure: string | null;
}

export function describe(context: WorkContext, tenant: TenantId, branch: BranchName): Compute {
  return describePlace(context, tenant, branch, findPlace(context, tenant, branch));
}

/**
 * {@link describe} for any number of branches of a tenant: it looks once which of them have a
 * compute. Most of a thousand have none.
 */
export function describeMany(context: WorkContext, tenant: TenantId): (branch: BranchName) => Compute {
  const places = new Map(listPlaces(context.environment(), tenant).map((place) => [place.name, place]));
  return (branch) => describePlace(context, tenant, branch, places.get(branch));
}

function describePlace(
  context: WorkContext,
  tenant: TenantId,
  branch: BranchName,
  place: ComputePlace | undefined,
): Compute {
  const sessions = context.fleet.usesOf(tenant, ownName(branch));
  if (place === undefined) return { state: "asleep", sessions, failure: null };
  const { failure } = readLastStart(place.paths);
  return {
    state: isUp(place) ? "awake" : place.status === "crashed" ? "crashed" : "asleep",
    sessions,
    failure: failure === null ? null : describeFailure(failure),
  };
}

function findPlace(context: WorkContext, tenant: TenantId, branch: BranchName): ComputePlace | undefined {
  try {
    return findComputePlace(context.environment(), tenant, branch);
  } catch (error) {
    if (error instanceof ZenithError && error.kind === "not_found") return undefined;
    throw error;
  }
}

/** Wakes a branch's compute. It sleeps again when nobody uses it. */
export async function start(context: WorkContext, tenant: TenantId, branch: BranchName): Promise<Compute> {
  using _held = await context.fleet.hold(tenant, branch);
  return describe(context, tenant, branch);
}

export async function stop(
  context: WorkContext,
  tenant: TenantId,
  branch: BranchName,
  mode: StopMode,
): Promise<Compute> {
  await context.fleet.stop(tenant, ownName(branch), mode);
  return describe(context, tenant, branch);
}

/**
 * PostgreSQL's settings of a branch: those of its compute, else those that its next one starts
 * with.
 */
export async function settingsOf(
  context: WorkContext,
  tenant: TenantId,
  branch: BranchInfo,
): Promise<ReadonlyMap<string, string>> {
  const compute = findPlace(context, tenant, branchNameOf(branch));
  const known = compute === undefined ? undefined : describeCompute(compute);
  return await withPageServer(context, (client) => currentSettings(client, branch, tenant, known));
}

export interface Session {
  /** Defaults to the owner of the databases, which is no superuser. */
  readonly role?: string | undefined;
  /** Defaults to `postgres`. */
  readonly database?: string | undefined;
  readonly isPooled?: boolean;
}

/** The host name of a branch's compute. */
export function hostOf({ domain }: WorkContext, { endpoint }: KnownBranch, isPooled = false): string {
  return `${endpoint}${isPooled ? "-pooler" : ""}.${domain}`;
}

/**
 * The password of a role, as far as Zenith knows it: of the roles that it keeps, and of those that
 * were made over the API. Nobody gets the superuser's this way.
 */
export function passwordOf(context: WorkContext, known: KnownBranch, role: string): string | undefined {
  if (role === ZENITH_SUPERUSER) return undefined;
  const kept = rolePasswords(context.environment().paths.pgpass(known.tenant)).get(role)?.password;
  return kept ?? context.passwords.get(known.tenant, known.timeline, role);
}

/** The connection string of a branch, through the proxy. */
export function uriOf(context: WorkContext, known: KnownBranch, session: Session = {}): string {
  const { role = ZENITH_OWNER, database = "postgres", isPooled = false } = session;
  const encode = encodeURIComponent;
  const password = passwordOf(context, known, role);
  const secret = password === undefined ? "" : `:${encode(password)}`;
  const { postgresPort } = context;
  const port = postgresPort === 5432 ? "" : `:${postgresPort}`;
  return `postgresql://${encode(role)}${secret}@${hostOf(context, known, isPooled)}${port}/${
    encode(database)
  }?sslmode=require&channel_binding=require`;
}

export function branchNameOf({ name }: { readonly name: string }): BranchName {
  return parseBranchName(name);
}
