/** Surveys branches: the positions of the page server and each safekeeper, and sizes. */
import type { TenantId } from "../../common/id.ts";
import { formatLsn, type Lsn } from "../../common/lsn.ts";
import { pageServerLag } from "../branch_end.ts";
import type { BranchInfo, PageServerClient, PageServerStatus } from "../page_server_client.ts";
import { ask } from "./ask.ts";
import type { ComputeSurvey } from "./computes.ts";
import type { Problem } from "./problem.ts";
import type { SurveyedSafekeeper } from "./servers.ts";

export interface BranchSurvey {
  readonly tenant_id: string;
  readonly branch: string;
  readonly timeline_id: string;
  /** The page server's position. */
  readonly latest_valid_lsn: string;
  /**
   * The safekeepers' commit LSN; null without safekeepers, or when none has WAL of the timeline.
   */
  readonly commit_lsn: string | null;
  /** How far the page server is behind commit_lsn. */
  readonly page_server_lag_bytes: number | null;
  /** How far each safekeeper is behind the most advanced one; null for one that does not answer. */
  readonly safekeepers: readonly { readonly id: number; readonly lag_bytes: number | null }[];
  readonly logical_size_bytes: number | null;
  readonly physical_size_bytes: number | null;
}

export async function surveyBranches(
  client: PageServerClient,
  defaultTenant: TenantId,
  safekeepers: readonly SurveyedSafekeeper[],
  problems: Problem[],
): Promise<BranchSurvey[]> {
  const surveyed: BranchSurvey[] = [];
  const listed = await ask(() => client.tenantList());
  if (listed.answer !== undefined && !listed.answer.includes(defaultTenant)) {
    problems.push({
      what: `the page server does not have this environment's tenant ${defaultTenant}`,
      hint:
        'restore it from a backup, or name one of "zenith tenant list" as default_tenant_id in the config',
      down: true,
    });
  }
  for (const tenant of listed.answer ?? []) {
    const asked = await ask(() => client.branchList(tenant));
    if (asked.answer === undefined) {
      problems.push({
        what: `tenant ${tenant}: ${asked.error}`,
        hint: '"zenith logs pageserver" may say more',
        down: true,
      });
    }
    for (const { damage } of (await ask(() => client.branchDamaged(tenant))).answer ?? []) {
      problems.push({ ...damage, down: true });
    }
    for (const branch of asked.answer ?? []) {
      if (branch.damage !== undefined) problems.push({ ...branch.damage, down: false });
      surveyed.push(surveyBranch(tenant, branch, safekeepers));
    }
  }
  return surveyed;
}

/**
 * Reports timelines whose WAL the page server should receive but doesn't. Ignores errors of
 * receivers that stream again.
 */
export function stuckReceivers(
  pageServer: PageServerStatus,
  branches: readonly BranchSurvey[],
  computes: readonly ComputeSurvey[],
): Problem[] {
  return branches.flatMap((branch) => {
    const receiver = pageServer.timelines.find(({ timeline_id }) => timeline_id === branch.timeline_id)
      ?.wal_receiver;
    const wanted = (branch.page_server_lag_bytes ?? 0) > 0 ||
      computes.some((compute) =>
        compute.tenant_id === branch.tenant_id && compute.branch === branch.branch &&
        compute.status === "running" && compute.read_only_lsn === null
      );
    if (!wanted || receiver === undefined || receiver === null) return [];
    if (receiver.streaming || receiver.error === null) return [];
    return [{
      what: `the page server does not take in the WAL of branch ${branch.branch}: ${receiver.error}`,
      hint: 'it is called again every second; "zenith logs pageserver" says more',
      down: true,
    }];
  });
}

function surveyBranch(
  tenant: TenantId,
  branch: BranchInfo,
  safekeepers: readonly SurveyedSafekeeper[],
): BranchSurvey {
  const states = safekeepers.map(({ survey, timelines }) => ({
    id: survey.id,
    answers: timelines !== undefined,
    timeline: timelines?.find((status) => status.timeline_id === branch.timeline_id),
  }));
  const first = highest(states.map(({ timeline }) => timeline?.flush_lsn));
  const committed = highest(states.map(({ timeline }) => timeline?.commit_lsn));
  return {
    tenant_id: tenant,
    branch: branch.name,
    timeline_id: branch.timeline_id,
    latest_valid_lsn: formatLsn(branch.latest_valid_lsn),
    commit_lsn: committed === undefined ? null : formatLsn(committed),
    page_server_lag_bytes: committed === undefined ? null : pageServerLag(branch, committed),
    safekeepers: states.map(({ id, answers, timeline }) => ({
      id,
      lag_bytes: !answers ? null : first === undefined ? 0 : first - (timeline?.flush_lsn ?? 0),
    })),
    logical_size_bytes: branch.logical_size_bytes ?? null,
    physical_size_bytes: branch.physical_size_bytes ?? null,
  };
}

function highest(lsns: readonly (Lsn | undefined)[]): Lsn | undefined {
  return lsns.filter((lsn) => lsn !== undefined).sort((a, b) => b - a)[0];
}
