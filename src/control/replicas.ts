/** Finds and creates computes that follow a branch, read-only, and tells how far they are. */
import { ZenithError } from "../common/errors.ts";
import { inTime } from "../common/in_time.ts";
import { type BranchName, parseBranchName, type TenantId } from "../common/id.ts";
import { type Lsn, parseLsn } from "../common/lsn.ts";
import { withPassword } from "../compute/postgres/role_passwords.ts";
import { ZENITH_SUPERUSER } from "../pg_install/initdb.ts";
import { PgClient } from "../pgwire/client.ts";
import { acknowledgedEnd } from "./branch_end.ts";
import { allComputePlaces, isUp } from "./compute_places.ts";
import { type ComputeInfo, findOrCreateCompute, pointComputeTo } from "./computes.ts";
import { type Environment, withAdminToken } from "./environment.ts";
import type { BranchInfo, PageServerClient } from "./page_server_client.ts";

const CONNECT_TIMEOUT_MS = 3_000;
/** A server that takes longer is as good as silent. */
const ANSWER_TIMEOUT_MS = 5_000;

/** Returns the smallest number that no running replica of the branch has. */
export function freeReplica(environment: Environment, tenant: TenantId, branch: BranchName): number {
  const taken = new Set(
    allComputePlaces(environment)
      .filter((found) => found.tenant === tenant && found.branch === branch && isUp(found))
      .map(({ replica }) => replica),
  );
  let number = 1;
  while (taken.has(number)) number++;
  return number;
}

/**
 * Finds a replica of a branch; creates it when there is none yet.
 *
 * @param port for a compute that is created; defaults to the first free one
 */
export async function findOrCreateReplica(
  environment: Environment,
  client: PageServerClient,
  tenant: TenantId,
  branch: BranchInfo,
  replica: number,
  port: number | undefined,
): Promise<ComputeInfo> {
  const name = parseBranchName(branch.name);
  const options = { replica, port };
  const found = await findOrCreateCompute(
    environment,
    client,
    tenant,
    name,
    () => Promise.resolve(branch),
    options,
  );
  if (found.identity.timeline === branch.timeline_id) return found;
  // The branch was restored since.
  return pointComputeTo(found, branch.timeline_id);
}

/** How far a replica is. */
export interface ReplicaPosition {
  /** Its sessions see everything below. */
  readonly replayLsn: Lsn;
  /**
   * How much acknowledged WAL it has not replayed; null when too few safekeepers answer to tell.
   */
  readonly lagBytes: number | null;
}

/** Returns null when the replica does not answer. */
export async function replicaPosition(
  environment: Environment,
  { tenant, identity, address, paths }: ComputeInfo,
): Promise<ReplicaPosition | null> {
  const replayLsn = await orNull(async () => {
    await using client = await PgClient.connect({
      ...address,
      user: ZENITH_SUPERUSER,
      password: withPassword(paths).password,
      database: "postgres",
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
    });
    const { rows } = await client.query("SELECT pg_catalog.pg_last_wal_replay_lsn()");
    return parseLsn(rows[0]![0]!);
  });
  if (replayLsn === null) return null;
  const safekeepers = identity.walAcceptors.map((address) => withAdminToken(environment, address));
  const end = await orNull(() => acknowledgedEnd(safekeepers, tenant, identity.timeline));
  return { replayLsn, lagBytes: end === null ? null : Math.max(0, (end ?? replayLsn) - replayLsn) };
}

async function orNull<T>(question: () => Promise<T>): Promise<T | null> {
  try {
    return await inTime(question(), ANSWER_TIMEOUT_MS, "no answer");
  } catch (error) {
    if (error instanceof ZenithError) return null;
    throw error;
  }
}
