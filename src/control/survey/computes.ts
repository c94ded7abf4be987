/** Surveys each Postgres of an environment. */
import { formatHostPort } from "../../common/host_port.ts";
import { isOwn } from "../../common/compute_name.ts";
import { formatLsn } from "../../common/lsn.ts";
import { readConditions } from "../../compute/postgres/conditions.ts";
import { RUNS_ELSEWHERE, STOP_IT_THERE } from "../../process/pid_file.ts";
import { type ComputePlace, type ComputeStatus, isUp } from "../compute_places.ts";
import { describeCompute } from "../computes.ts";
import type { Environment } from "../environment.ts";
import { readLastStart } from "../last_start.ts";
import { replicaPosition } from "../replicas.ts";
import { standbysAhead } from "../standbys_ahead.ts";
import { howItEnded, type Problem, problemOf } from "./problem.ts";

export interface ComputeSurvey {
  readonly tenant_id: string;
  readonly branch: string;
  /** The branch's name, followed by the moment that the compute looks at, if any. */
  readonly name: string;
  readonly status: ComputeStatus;
  /** Null when the configuration can't be read. */
  readonly address: string | null;
  /** The supervisor's process id. */
  readonly pid: number | null;
  /**
   * The LSN that a read-only compute looks at; null when it continues from the end of its branch.
   */
  readonly read_only_lsn: string | null;
  /** Up to where a running replica has replayed; null for all others. */
  readonly replay_lsn: string | null;
  /** How much acknowledged WAL it has not replayed; null when that is not known. */
  readonly replay_lag_bytes: number | null;
  /** Why the last start failed; null when it didn't, or when the compute runs. */
  readonly last_start_error: string | null;
  readonly data: string;
  readonly log: string;
  readonly postgres_log: string;
}

export async function surveyCompute(
  environment: Environment,
  found: ComputePlace,
  problems: Problem[],
): Promise<ComputeSurvey> {
  const { tenant, branch, name, status, pid, paths } = found;
  const { failure } = readLastStart(paths);
  const base = {
    tenant_id: tenant,
    branch,
    name,
    status,
    pid,
    last_start_error: failure === null || status === "running" ? null : failure.message,
    data: paths.dir,
    log: paths.log,
    postgres_log: paths.postgresLog,
  };
  const ofTenant = tenant === environment.config.default_tenant_id ? "" : ` --tenantid ${tenant}`;
  if (failure !== null && !isUp(found)) {
    problems.push({
      what: `the Postgres of branch ${name}: last start failed: ${failure.message}`,
      hint: failure.hint ??
        `"zenith pg start ${name}${ofTenant}" tries again, "zenith pg stop ${name}${ofTenant}" gives it up; ` +
          `"zenith logs ${name}${ofTenant}" shows its logs`,
      down: true,
    });
  } else if (status === "elsewhere") {
    problems.push({
      what: `the Postgres of branch ${name} ${RUNS_ELSEWHERE}`,
      hint: STOP_IT_THERE,
      down: false,
    });
  } else if (status === "crashed") {
    problems.push({
      what: `the Postgres of branch ${name} ${howItEnded(paths.log)}`,
      hint: `"zenith pg start ${name}${ofTenant}" starts it; "zenith logs ${name}${ofTenant}" shows its logs`,
      down: true,
    });
  }
  if (status === "running") {
    for (const { text, remedy } of readConditions(paths)) {
      if (remedy !== null) problems.push({ what: `the Postgres of branch ${name}: ${text}`, ...remedy });
    }
  }
  try {
    const compute = describeCompute(found);
    const { address, readOnlyAt, replica } = compute;
    if (status === "running" && isOwn(found)) {
      for (const { name: standby, replayLsn, endLsn } of await standbysAhead(compute)) {
        problems.push({
          what: `standby ${standby} is ahead of branch ${name}: it has replayed WAL up to ${
            formatLsn(replayLsn)
          }, the branch ends at ${formatLsn(endLsn)}`,
          hint:
            `that WAL was lost with an earlier Postgres: make the standby anew, by "zenith pg standby ${name}"`,
          down: false,
        });
      }
    }
    const position = replica !== null && status === "running"
      ? await replicaPosition(environment, compute)
      : null;
    return {
      ...base,
      address: formatHostPort(address),
      read_only_lsn: readOnlyAt === null ? null : formatLsn(readOnlyAt),
      replay_lsn: position === null ? null : formatLsn(position.replayLsn),
      replay_lag_bytes: position?.lagBytes ?? null,
    };
  } catch (error) {
    const remake = `"zenith pg stop ${name}${ofTenant} --destroy" and "zenith pg ${
      isOwn(found) ? "create" : "start"
    } ${name}${ofTenant}"`;
    problems.push(problemOf(error, `mend that file, or ${remake}`, status !== "running"));
    return { ...base, address: null, read_only_lsn: null, replay_lsn: null, replay_lag_bytes: null };
  }
}
