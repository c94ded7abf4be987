/** `zenith pg list`: shows the Postgres of each branch. */
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { formatHostPort } from "../../common/host_port.ts";
import type { TenantId } from "../../common/id.ts";
import { formatLsn, type Lsn } from "../../common/lsn.ts";
import { readConditions } from "../../compute/postgres/conditions.ts";
import { acknowledgedEnd, pageServerLag } from "../../control/branch_end.ts";
import { allComputePlaces, type ComputePlace } from "../../control/compute_places.ts";
import { type ComputeInfo, describeCompute } from "../../control/computes.ts";
import {
  chooseTenant,
  type Environment,
  loadEnvironment,
  pageServerAddress,
  withAdminToken,
} from "../../control/environment.ts";
import { describeFailure, readLastStart } from "../../control/last_start.ts";
import { lastErrorInLog } from "../../control/log_file.ts";
import { type BranchInfo, PageServerClient } from "../../control/page_server_client.ts";
import { replicaPosition } from "../../control/replicas.ts";
import { answerInTime } from "../../control/survey/ask.ts";
import { type Command, JSON_OPTION, optionText, TENANT_OPTION } from "../cli/command.ts";
import { type Column, formatBytes, printList } from "../cli/output.ts";

export const pgListCommand: Command = {
  usage: "pg list",
  description: "List the Postgres of a tenant's branches, of moments of their past, and replicas",
  options: [TENANT_OPTION, JSON_OPTION],
  examples: [
    ["pg list", "One line per Postgres"],
  ],
  async run(_args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const branches = await reachableBranches(environment, tenant);
    const listed = await Promise.all(
      allComputePlaces(environment).filter((found) => found.tenant === tenant)
        .map((found) => listCompute(environment, found, branches)),
    );
    printList(listed, COLUMNS, computeJson, options);
  },
};

interface ListedCompute {
  readonly found: ComputePlace;
  /** Null when the configuration can't be read. */
  readonly compute: ComputeInfo | null;
  /**
   * The LSN that it shows: the end of its branch, the moment that it looks at, or what a replica
   * has replayed.
   */
  readonly lsn: Lsn | null;
  /**
   * How far the page server, or the replica, is behind the safekeepers; null when there are none,
   * or too few answer.
   */
  readonly lagBytes: number | null;
  /** Why it crashed or failed to start, or its current problems. */
  readonly notes: readonly string[];
}

async function listCompute(
  environment: Environment,
  found: ComputePlace,
  branches: readonly BranchInfo[] | undefined,
): Promise<ListedCompute> {
  let compute: ComputeInfo;
  try {
    compute = describeCompute(found);
  } catch (error) {
    return { found, compute: null, lsn: null, lagBytes: null, notes: [errorMessage(error)] };
  }
  const branch = branches?.find((branch) => branch.timeline_id === compute.identity.timeline);
  if (compute.replica !== null) {
    const position = compute.status === "running" ? await replicaPosition(environment, compute) : null;
    const { replayLsn: lsn = null, lagBytes = null } = position ?? {};
    return { found, compute, lsn, lagBytes, notes: notesOn(compute) };
  }
  return {
    found,
    compute,
    lsn: compute.readOnlyAt ?? branch?.latest_valid_lsn ?? null,
    lagBytes: compute.readOnlyAt === null ? await lag(environment, compute, branch) : null,
    notes: notesOn(compute),
  };
}

const COLUMNS: readonly Column<ListedCompute>[] = [
  { title: "BRANCH", cell: ({ found }) => found.name },
  { title: "ADDRESS", cell: ({ compute }) => compute === null ? "?" : formatHostPort(compute.address) },
  { title: "LSN", cell: ({ lsn }) => lsn === null ? "?" : formatLsn(lsn) },
  {
    title: "LAG",
    cell: ({ compute, lagBytes }) => {
      const known = compute === null || compute.readOnlyAt !== null ||
        compute.identity.walAcceptors.length === 0;
      return lagBytes === null ? known ? "-" : "?" : formatBytes(lagBytes);
    },
  },
  {
    title: "STATUS",
    cell: ({ found, compute, notes }) => {
      const isReadOnly = found.replica !== null || compute !== null && compute.readOnlyAt !== null;
      const all = [...(isReadOnly ? ["read-only"] : []), ...notes];
      return found.status + (all.length === 0 ? "" : ` (${all.join("; ")})`);
    },
  },
];

function computeJson({ found, compute, lsn, lagBytes, notes }: ListedCompute): Record<string, unknown> {
  const readOnlyAt = compute?.readOnlyAt ?? null;
  return {
    tenant_id: found.tenant,
    branch: found.branch,
    name: found.name,
    timeline_id: compute?.identity.timeline ?? null,
    status: found.status,
    address: compute === null ? null : formatHostPort(compute.address),
    pid: found.pid,
    lsn: lsn === null ? null : formatLsn(lsn),
    read_only_lsn: readOnlyAt === null ? null : formatLsn(readOnlyAt),
    page_server_lag_bytes: found.replica === null ? lagBytes : null,
    replay_lag_bytes: found.replica === null ? null : lagBytes,
    notes,
    data: found.paths.dir,
    log: found.paths.log,
    postgres_log: found.paths.postgresLog,
  };
}

/** Returns remarks on the compute's status. */
function notesOn(compute: ComputeInfo): string[] {
  const { failure } = readLastStart(compute.paths);
  if (failure !== null && compute.status !== "running") return [describeFailure(failure)];
  if (compute.status === "crashed") {
    return [lastErrorInLog(compute.paths.log) ?? ""].filter((why) => why !== "");
  }
  return compute.status === "stopped" ? [] : readConditions(compute.paths).map(({ text }) => text);
}

async function lag(
  environment: Environment,
  { tenant, identity }: ComputeInfo,
  branch: BranchInfo | undefined,
): Promise<number | null> {
  if (identity.walAcceptors.length === 0) return null;
  const safekeepers = identity.walAcceptors.map((address) => withAdminToken(environment, address));
  try {
    const end = await answerInTime(() => acknowledgedEnd(safekeepers, tenant, identity.timeline));
    if (branch === undefined) return null;
    return end === undefined ? 0 : pageServerLag(branch, end);
  } catch (error) {
    if (isOutOfReach(error)) return null;
    throw error;
  }
}

function isOutOfReach(error: unknown): boolean {
  return error instanceof ZenithError && (error.kind === "unavailable" || error.kind === "timeout");
}

/** Returns undefined when the page server doesn't answer: computes can be listed without it. */
async function reachableBranches(
  environment: Environment,
  tenant: TenantId,
): Promise<BranchInfo[] | undefined> {
  await using client = new PageServerClient(pageServerAddress(environment));
  try {
    return await answerInTime(() => client.branchList(tenant));
  } catch (error) {
    if (isOutOfReach(error)) return undefined;
    throw error;
  }
}
