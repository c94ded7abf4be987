/**
 * Finds, creates and removes computes that look at a moment of a branch's past, and resolves the
 * names that command lines give them.
 */
import { existsSync } from "node:fs";
import { parseReplica } from "../common/compute_name.ts";
import { ZenithError } from "../common/errors.ts";
import { type BranchName, parseBranchName, type TenantId } from "../common/id.ts";
import { formatLsn, type Lsn } from "../common/lsn.ts";
import { type Moment, parseBranchPoint } from "../common/moment.ts";
import { endOrphan } from "../compute/postgres/postgres_process.ts";
import { untilBranchEndArrived, untilMomentArrived } from "./branch_end.ts";
import {
  allComputePlaces,
  type ComputePlace,
  destroyCompute,
  findComputePlace,
  isUp,
} from "./compute_places.ts";
import { type ComputeInfo, describeCompute, findOrCreateCompute } from "./computes.ts";
import { type Environment, pageServerAddress } from "./environment.ts";
import { type BranchInfo, PageServerClient } from "./page_server_client.ts";

/** Long enough for a compute that starts at the LSN to take a lease of its own. */
const LEASE_MS = 60_000;

/** A compute's name as parsed from a command line. */
export interface NamedCompute {
  readonly branch: BranchName;
  /** Undefined for a compute that goes on with the branch. */
  readonly moment: Moment | undefined;
  /** Null for a compute that is no replica. */
  readonly replica: number | null;
}

/** Reads `main`, `main@-5m` or `main@replica1`. @throws {ZenithError} `invalid_argument` */
export function parseComputeName(text: string): NamedCompute {
  const at = text.indexOf("@");
  const replica = at < 0 ? null : parseReplica(text.slice(at + 1));
  if (replica !== null) return { branch: parseBranchName(text.slice(0, at)), moment: undefined, replica };
  const point = parseBranchPoint(text);
  return { branch: parseBranchName(point.name), moment: at < 0 ? undefined : point.moment, replica };
}

/** The branch and LSN of a moment. */
export interface Past {
  /** The named branch, or the ancestor that it had not yet branched from. */
  readonly branch: BranchInfo;
  /** The end of a record. It stays readable for a minute. */
  readonly lsn: Lsn;
}

/**
 * @throws {ZenithError} `not_found`; `out_of_range` when the moment is in the future or no longer
 *   retained
 */
export async function findPast(
  client: PageServerClient,
  tenant: TenantId,
  name: BranchName,
  moment: Moment,
): Promise<Past> {
  const named = await client.branch(tenant, name);
  const { branch, lsn } = moment.kind === "time"
    ? await findTime(client, tenant, named, moment.timestamp)
    : await findLsn(client, tenant, named, moment.kind === "lsn" ? moment.lsn : undefined);
  const lease = await client.leaseLsn(tenant, branch.timeline_id, lsn, LEASE_MS);
  return { branch, lsn: lease.lsn };
}

async function findTime(
  client: PageServerClient,
  tenant: TenantId,
  named: BranchInfo,
  timestamp: number,
): Promise<Past> {
  await untilMomentArrived(client, tenant, named, timestamp);
  const { lsn, timeline_id } = await client.lsnAt(tenant, named.timeline_id, timestamp);
  const branch = await client.findBranch(tenant, timeline_id);
  if (branch !== undefined) return { branch, lsn };
  throw new ZenithError("not_found", `no branch has timeline ${timeline_id}, which ${named.name} comes from`);
}

/** @param wanted undefined for the branch's end */
async function findLsn(
  client: PageServerClient,
  tenant: TenantId,
  named: BranchInfo,
  wanted: Lsn | undefined,
): Promise<Past> {
  const branch = wanted === undefined || wanted > named.next_lsn
    ? await untilArrived(client, tenant, named)
    : named;
  assertPast(branch, wanted ?? branch.latest_valid_lsn);
  return { branch, lsn: wanted ?? branch.latest_valid_lsn };
}

/** Waits for WAL that only the safekeepers have: it belongs to the past too. */
async function untilArrived(
  client: PageServerClient,
  tenant: TenantId,
  branch: BranchInfo,
): Promise<BranchInfo> {
  await untilBranchEndArrived(client, tenant, branch);
  return await client.branch(tenant, parseBranchName(branch.name));
}

/**
 * Rejects a future LSN. The page server would wait for it, but nobody would write it.
 *
 * @throws {ZenithError} `out_of_range`
 */
function assertPast(branch: BranchInfo, lsn: Lsn): void {
  if (lsn <= branch.next_lsn) return;
  const end = formatLsn(branch.latest_valid_lsn);
  throw new ZenithError(
    "out_of_range",
    `LSN ${formatLsn(lsn)} is in the future: branch ${branch.name} ends at ${end}`,
  );
}

/**
 * Waits until WAL up to `lsn` that is still on its way has reached the page server.
 *
 * @throws {ZenithError} `out_of_range` when `lsn` is in the future of the compute's branch
 */
export async function untilPast(client: PageServerClient, compute: ComputeInfo, lsn: Lsn): Promise<void> {
  const { tenant, identity } = compute;
  const branch = await client.findBranch(tenant, identity.timeline);
  if (branch !== undefined) await findLsn(client, tenant, branch, lsn);
}

/**
 * Finds the compute that looks at a moment; creates it when there is none yet.
 *
 * @param port for a compute that is created; defaults to the first free one
 * @throws {ZenithError} `not_found`, `out_of_range` for the moment; `conflict` when the compute
 *   runs on the branch as it was before a restore
 */
export async function findOrCreateMoment(
  environment: Environment,
  client: PageServerClient,
  tenant: TenantId,
  named: BranchName,
  wanted: Moment,
  port: number | undefined,
): Promise<ComputeInfo> {
  const { branch, lsn: moment } = await findPast(client, tenant, named, wanted);
  const name = parseBranchName(branch.name);
  const make = () =>
    findOrCreateCompute(environment, client, tenant, name, () => Promise.resolve(branch), { moment, port });
  const compute = await make();
  if (compute.identity.timeline === branch.timeline_id) return compute;
  if (isUp(compute)) {
    throw new ZenithError(
      "conflict",
      `the Postgres of branch ${compute.name} looks at what ${name} was before it was restored`,
      { hint: `stop it first: "zenith pg stop ${compute.name}"` },
    );
  }
  await destroyCompute(environment, compute);
  return await make();
}

/**
 * Finds the compute that a command line names. Looks up a moment that is not an LSN.
 *
 * @throws {ZenithError} `not_found` when there is none; as {@link findOrCreateMoment}
 */
export async function findNamedPlace(
  environment: Environment,
  tenant: TenantId,
  text: string,
): Promise<ComputePlace> {
  const { branch, moment, replica } = parseComputeName(text);
  if (moment === undefined) {
    return findComputePlace(environment, tenant, { branch, moment: null, replica });
  }
  const existing = (branch: BranchName, lsn: Lsn): ComputePlace | undefined => {
    const name = { branch, moment: lsn, replica: null };
    if (!existsSync(environment.paths.compute(tenant, name).dir)) return undefined;
    return findComputePlace(environment, tenant, name);
  };
  const known = moment.kind === "lsn" ? existing(branch, moment.lsn) : undefined;
  if (known !== undefined) return known;
  await using client = new PageServerClient(pageServerAddress(environment));
  const past = await findPast(client, tenant, branch, moment);
  const name = parseBranchName(past.branch.name);
  const found = existing(name, past.lsn);
  if (found !== undefined) return found;
  const others = allComputePlaces(environment)
    .filter((found) => found.tenant === tenant && found.branch === name && found.moment !== null);
  const wanted = `${name}@${formatLsn(past.lsn)}`;
  throw new ZenithError("not_found", `no Postgres looks at ${wanted}`, {
    hint: `"zenith pg start ${wanted}" starts one` +
      (others.length === 0 ? "" : `; there are ${others.map((other) => other.name).join(", ")}`),
  });
}

/**
 * Like {@link findNamedPlace}, with the configuration.
 *
 * @throws {ZenithError} as {@link describeCompute} too
 */
export async function findNamedCompute(
  environment: Environment,
  tenant: TenantId,
  text: string,
): Promise<ComputeInfo> {
  return describeCompute(await findNamedPlace(environment, tenant, text));
}

/** Removes a stopped compute that looks at a moment: nothing in it is worth keeping. */
export async function removeMoment(environment: Environment, compute: ComputePlace): Promise<void> {
  // If the supervisor was killed, Postgres may still be running.
  if (existsSync(compute.paths.pgdata)) await endOrphan(compute.paths.pgdata);
  await destroyCompute(environment, compute);
}
