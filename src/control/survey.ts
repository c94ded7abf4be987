/** What an environment is made of, what of it runs, and what is wrong: for `zenith status`. As it is, it is JSON. */
import { statfsSync } from "node:fs";
import { relative } from "node:path";
import { errorMessage, ZenithError } from "../common/errors.ts";
import { formatHostPort } from "../common/host_port.ts";
import type { TenantId } from "../common/id.ts";
import { formatLsn, type Lsn } from "../common/lsn.ts";
import { checkPidFile } from "../common/pid_file.ts";
import { allComputePlaces, type ComputePlace, describeCompute } from "./computes.ts";
import { type Environment, hasLocalPageServer, pageServerAddress } from "./environment.ts";
import { lastErrorInLog } from "./log_file.ts";
import { type BranchInfo, PageServerClient, type PageServerStatus } from "./page_server_client.ts";
import { assertDataPresent } from "./page_server_process.ts";
import { isPortFree } from "./ports.ts";
import { listSafekeepers, type SafekeeperInfo, safekeeperStatus } from "./safekeepers.ts";
import type { SafekeeperTimelineStatus } from "./safekeepers.ts";

/**
 * `crashed`: it ended without having been asked to. `silent`: its process is there and does not answer. `unreachable`: a remote
 * page server does not answer.
 */
export type ServerState = "running" | "stopped" | "crashed" | "silent" | "unreachable";

export interface ServerSurvey {
  readonly status: ServerState;
  /** `host:port`. */
  readonly address: string;
  readonly pid: number | null;
  /** Directory and file; null for a server of somebody else's. */
  readonly data: string | null;
  readonly log: string | null;
}

export interface PageServerSurvey extends ServerSurvey {
  /** Somebody else runs it. */
  readonly remote: boolean;
  readonly rss_bytes: number | null;
}

export interface SafekeeperSurvey extends ServerSurvey {
  readonly id: number;
}

export interface ComputeSurvey {
  readonly tenant_id: string;
  readonly branch: string;
  readonly status: "running" | "stopped" | "crashed";
  /** null when its configuration can't be read. */
  readonly address: string | null;
  /** Of its supervisor. */
  readonly pid: number | null;
  /** The past that it looks at; null when it goes on from the end of its branch. */
  readonly read_only_lsn: string | null;
  readonly data: string;
  readonly log: string;
  readonly postgres_log: string;
}

export interface BranchSurvey {
  readonly tenant_id: string;
  readonly branch: string;
  readonly timeline_id: string;
  /** How far the page server is. */
  readonly latest_valid_lsn: string;
  /** How far a majority of the safekeepers is; null without safekeepers, or when none has anything of it. */
  readonly commit_lsn: string | null;
  /** What the page server lacks of that. */
  readonly page_server_lag_bytes: number | null;
  /** What each safekeeper lacks of what the first of them has; null for one that does not answer. */
  readonly safekeepers: readonly { readonly id: number; readonly lag_bytes: number | null }[];
  readonly logical_size_bytes: number | null;
  readonly physical_size_bytes: number | null;
}

export interface Problem {
  readonly what: string;
  /** What to do about it. */
  readonly hint: string;
  /** Whether something that should run does not. */
  readonly down: boolean;
}

export interface Survey {
  readonly directory: string;
  readonly disk_free_bytes: number;
  readonly disk_total_bytes: number;
  readonly page_server: PageServerSurvey;
  readonly safekeepers: readonly SafekeeperSurvey[];
  readonly computes: readonly ComputeSurvey[];
  readonly branches: readonly BranchSurvey[];
  readonly problems: readonly Problem[];
}

/** What is said of a server that nobody has started, or that was stopped. */
const NOT_RUNNING = " does not run";

/** A server that does not answer in this time is not well. */
const ANSWER_TIMEOUT_MS = 5_000;

/** Less room than this is soon none. */
export const DISK_LOW_BYTES = 1 << 30;

/** Looks at every process and asks every server. A server that is down is a finding, not an error. */
export async function surveyEnvironment(environment: Environment): Promise<Survey> {
  const problems: Problem[] = [];
  await using client = new PageServerClient(pageServerAddress(environment));
  const [server, safekeepers] = await Promise.all([
    surveyPageServer(environment, client, problems),
    Promise.all(listSafekeepers(environment).map((info) => surveySafekeeper(environment, info, problems))),
  ]);
  const computes = allComputePlaces(environment).map((found) => surveyCompute(environment, found, problems));
  const branches = server.answer === undefined
    ? []
    : await surveyBranches(client, environment.config.default_tenant_id, safekeepers, problems);
  if (server.answer !== undefined) problems.push(...stuckReceivers(server.answer, branches, computes));
  const disk = surveyDisk(environment, problems);
  const servers = [server.survey, ...safekeepers.map(({ survey }) => survey)];
  if (servers.every(({ status }) => status === "stopped")) {
    // One sentence says it, unless there is more to be said.
    const rest = problems.filter(({ what }) => !what.endsWith(NOT_RUNNING));
    problems.splice(0, problems.length, {
      what: "nothing runs",
      hint: '"zenith start" starts the servers',
      down: true,
    }, ...rest);
  }
  return {
    directory: environment.paths.root,
    ...disk,
    page_server: server.survey,
    safekeepers: safekeepers.map(({ survey }) => survey),
    computes,
    branches,
    problems,
  };
}

async function surveyPageServer(
  environment: Environment,
  client: PageServerClient,
  problems: Problem[],
): Promise<{ survey: PageServerSurvey; answer: PageServerStatus | undefined }> {
  const { paths } = environment;
  const { workdir, log, pidFile } = paths.pageserver;
  const remote = !hasLocalPageServer(environment);
  const address = formatHostPort(client.address);
  const asked = await ask(() => client.status());
  const base = { remote, address, rss_bytes: asked.answer?.rss_bytes ?? null };
  if (remote) {
    if (asked.answer === undefined) {
      problems.push({
        what: `the page server at ${address} does not answer: ${asked.error}`,
        hint:
          `it is another environment's: start it there; pageserver.url in ${paths.config} says where it is`,
        down: true,
      });
    }
    const status = asked.answer === undefined ? "unreachable" : "running";
    return {
      survey: { ...base, status, pid: asked.answer?.pid ?? null, data: null, log: null },
      answer: asked.answer,
    };
  }
  const found = checkPidFile(pidFile);
  const pid = found.state === "running" ? found.process.pid : null;
  const place = { data: workdir, log };
  try {
    assertDataPresent(environment);
  } catch (error) {
    problems.push(problemOf(error, "restore the data", true));
  }
  if (asked.answer !== undefined && asked.answer.pid !== pid) {
    problems.push({
      what: `another page server, process ${asked.answer.pid}, answers on ${address}`,
      hint: `stop that one, or give this environment another pageserver.listen in ${paths.config}`,
      down: true,
    });
    const status = pid !== null ? "silent" : found.state === "stale" ? "crashed" : "stopped";
    return { survey: { ...base, ...place, rss_bytes: null, status, pid }, answer: undefined };
  }
  const status = stateOf(found.state, asked.answer !== undefined);
  if (status !== "running") {
    problems.push(
      await serverProblem("the page server", "logs pageserver", status, client.address, {
        error: asked.error,
        log,
        config: `pageserver.listen in ${paths.config}`,
      }),
    );
  }
  return { survey: { ...base, ...place, status, pid }, answer: asked.answer };
}

interface SurveyedSafekeeper {
  readonly survey: SafekeeperSurvey;
  /** undefined when it doesn't answer. */
  readonly timelines: readonly SafekeeperTimelineStatus[] | undefined;
}

async function surveySafekeeper(
  environment: Environment,
  { id, address, paths }: SafekeeperInfo,
  problems: Problem[],
): Promise<SurveyedSafekeeper> {
  const asked = await ask(() => safekeeperStatus(address));
  const found = checkPidFile(paths.pidFile);
  const status = stateOf(found.state, asked.answer !== undefined);
  if (status !== "running") {
    problems.push(
      await serverProblem(`safekeeper ${id}`, `logs safekeeper ${id}`, status, address, {
        error: asked.error,
        log: paths.log,
        config: `the listen of safekeeper ${id} in ${environment.paths.config}`,
      }),
    );
  }
  const survey = {
    id,
    status,
    address: formatHostPort(address),
    pid: found.state === "running" ? found.process.pid : null,
    data: paths.workdir,
    log: paths.log,
  };
  // Who answers in the place of one of ours that is down is somebody else.
  return { survey, timelines: status === "running" ? asked.answer : undefined };
}

function stateOf(pidFile: "running" | "stale" | "absent", answers: boolean): ServerState {
  if (pidFile === "running") return answers ? "running" : "silent";
  return pidFile === "stale" ? "crashed" : "stopped";
}

interface ServerClues {
  /** Why it could not be asked. */
  readonly error: string | undefined;
  readonly log: string;
  /** The setting that says where it listens. */
  readonly config: string;
}

async function serverProblem(
  name: string,
  logCommand: string,
  status: ServerState,
  address: { host: string; port: number },
  clues: ServerClues,
): Promise<Problem> {
  if (status === "silent") {
    return {
      what: `${name} runs but does not answer: ${clues.error}`,
      hint: `"zenith ${logCommand}" may say why; "zenith restart -m immediate" restarts it and loses nothing`,
      down: true,
    };
  }
  if (!await isPortFree(address.port, address.host)) {
    return {
      what: `${name} does not run, and ${formatHostPort(address)} is in use by another program`,
      hint: `stop that program, or change ${clues.config}; then "zenith start"`,
      down: true,
    };
  }
  const hint = `"zenith start" starts it; "zenith ${logCommand}" shows its log`;
  if (status === "stopped") return { what: name + NOT_RUNNING, hint, down: true };
  return { what: `${name} ${howItEnded(clues.log)}`, hint, down: true };
}

function howItEnded(log: string): string {
  const words = lastErrorInLog(log);
  return words === undefined
    ? "was killed, or lost its machine: it left no last words"
    : `broke down: ${words.replace(/^ended: /, "")}`;
}

function surveyCompute(environment: Environment, found: ComputePlace, problems: Problem[]): ComputeSurvey {
  const { tenant, branch, status, pid, paths } = found;
  const base = {
    tenant_id: tenant,
    branch,
    status,
    pid,
    data: paths.dir,
    log: paths.log,
    postgres_log: paths.postgresLog,
  };
  const ofTenant = tenant === environment.config.default_tenant_id ? "" : ` --tenantid ${tenant}`;
  if (status === "crashed") {
    problems.push({
      what: `the Postgres of branch ${branch} ${howItEnded(paths.log)}`,
      hint:
        `"zenith pg start ${branch}${ofTenant}" starts it; "zenith logs ${branch}${ofTenant}" shows its logs`,
      down: true,
    });
  }
  try {
    const { address, readOnlyAt } = describeCompute(found);
    return {
      ...base,
      address: formatHostPort(address),
      read_only_lsn: readOnlyAt === null ? null : formatLsn(readOnlyAt),
    };
  } catch (error) {
    const remake =
      `"zenith pg stop ${branch}${ofTenant} --destroy" and "zenith pg create ${branch}${ofTenant}"`;
    problems.push(problemOf(error, `mend that file, or ${remake}`, status !== "running"));
    return { ...base, address: null, read_only_lsn: null };
  }
}

async function surveyBranches(
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
    for (const branch of asked.answer ?? []) {
      surveyed.push(surveyBranch(tenant, branch, safekeepers));
    }
  }
  return surveyed;
}

/** Timelines whose WAL the page server should be taking in, and doesn't. An error that is over and done with is none. */
function stuckReceivers(
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
    page_server_lag_bytes: committed === undefined ? null : Math.max(0, committed - branch.latest_valid_lsn),
    safekeepers: states.map(({ id, answers, timeline }) => ({
      id,
      lag_bytes: !answers ? null : first === undefined ? 0 : first - (timeline?.flush_lsn ?? 0),
    })),
    logical_size_bytes: branch.logical_size_bytes ?? null,
    physical_size_bytes: branch.physical_size_bytes ?? null,
  };
}

function problemOf(error: unknown, hint: string, down: boolean): Problem {
  const own = error instanceof ZenithError ? error.hint : undefined;
  return { what: errorMessage(error), hint: own ?? hint, down };
}

function highest(lsns: readonly (Lsn | undefined)[]): Lsn | undefined {
  return lsns.filter((lsn) => lsn !== undefined).sort((a, b) => b - a)[0];
}

function surveyDisk(
  { paths }: Environment,
  problems: Problem[],
): { disk_free_bytes: number; disk_total_bytes: number } {
  const stat = statfsSync(paths.root);
  const free = stat.bavail * stat.bsize;
  if (free < DISK_LOW_BYTES) {
    problems.push({
      what: `the disk of ${paths.root} has ${Math.floor(free / (1 << 20))} MiB left`,
      hint: "make room: when it is full, commits wait until there is some again",
      down: false,
    });
  }
  return { disk_free_bytes: free, disk_total_bytes: stat.blocks * stat.bsize };
}

/** What it answers, or the message of why it doesn't. */
async function ask<T>(question: () => Promise<T>): Promise<{ answer?: T; error?: string }> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new ZenithError("timeout", `no answer within ${ANSWER_TIMEOUT_MS / 1000} s`)),
      ANSWER_TIMEOUT_MS,
    );
  });
  try {
    return { answer: await Promise.race([question(), late]) };
  } catch (error) {
    return { error: errorMessage(error) };
  } finally {
    clearTimeout(timer);
  }
}

/** Below the environment's directory, as seen from there. */
export function within(survey: Survey, path: string): string {
  const short = relative(survey.directory, path);
  return short.startsWith("..") || short === "" ? path : short;
}
