/** Surveys the page server and the safekeepers: their processes, and whether they answer. */
import { formatHostPort } from "../../common/host_port.ts";
import { checkPidFile, type PidFileState, RUNS_ELSEWHERE, STOP_IT_THERE } from "../../process/pid_file.ts";
import { type Environment, hasLocalPageServer } from "../environment.ts";
import type { PageServerClient, PageServerStatus, ScrubStatus } from "../page_server_client.ts";
import { assertDataPresent } from "../page_server_process.ts";
import { whyNotFree } from "../ports.ts";
import {
  safekeeperDamage,
  safekeeperHeldBack,
  type SafekeeperInfo,
  safekeeperScrub,
  safekeeperStatus,
  type SafekeeperTimelineStatus,
} from "../safekeepers.ts";
import type { HeldBackJson } from "../../protocol/management.ts";
import { OPTION, TRICKLE_BYTES_PER_S } from "../../protocol/tenant_limits.ts";
import { ask } from "./ask.ts";
import { howItEnded, NOT_RUNNING, type Problem, problemOf } from "./problem.ts";

/**
 * `crashed`: it ended without being asked to. `silent`: its process runs but does not answer.
 * `unreachable`: a remote page server does not answer. `elsewhere`: its directory is locked by a
 * process that can't be seen.
 */
export type ServerState = "running" | "stopped" | "crashed" | "silent" | "unreachable" | "elsewhere";

export interface ServerSurvey {
  readonly status: ServerState;
  /** `host:port`. */
  readonly address: string;
  readonly pid: number | null;
  /** The data directory and the log file; null for a remote server. */
  readonly data: string | null;
  readonly log: string | null;
}

export interface PageServerSurvey extends ServerSurvey {
  /** Whether it belongs to another environment. */
  readonly remote: boolean;
  readonly rss_bytes: number | null;
}

export interface SafekeeperSurvey extends ServerSurvey {
  readonly id: number;
}

export async function surveyPageServer(
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
  const isAnothers = asked.answer === undefined
    ? asked.refused === true && pid === null
    : asked.answer.pid !== pid;
  if (isAnothers && found.state !== "elsewhere") {
    problems.push({
      what: asked.answer === undefined
        ? `another page server answers on ${address}: ${asked.error}`
        : `another page server, process ${asked.answer.pid}, answers on ${address}`,
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
  if (asked.answer !== undefined) {
    problems.push(...await scrubProblems("the page server", () => client.scrubStatus()));
    problems.push(...await heldBackProblems("the page server", () => client.tenantsHeldBack()));
  }
  return { survey: { ...base, ...place, status, pid }, answer: asked.answer };
}

export interface SurveyedSafekeeper {
  readonly survey: SafekeeperSurvey;
  /** Undefined when the safekeeper doesn't answer. */
  readonly timelines: readonly SafekeeperTimelineStatus[] | undefined;
}

export async function surveySafekeeper(
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
  const damaged = asked.answer === undefined ? [] : (await ask(() => safekeeperDamage(address))).answer ?? [];
  for (const { timeline_id, damage } of damaged) {
    problems.push({
      what: `safekeeper ${id} can't use timeline ${timeline_id}: ${damage.what}`,
      hint: damage.hint,
      down: true,
    });
  }
  if (asked.answer !== undefined) {
    problems.push(...await scrubProblems(`safekeeper ${id}`, () => safekeeperScrub(address)));
    problems.push(...await heldBackProblems(`safekeeper ${id}`, () => safekeeperHeldBack(address)));
  }
  const survey = {
    id,
    status,
    address: formatHostPort(address),
    pid: found.state === "running" ? found.process.pid : null,
    data: paths.workdir,
    log: paths.log,
  };
  // If our safekeeper is down, the answer comes from another server.
  return { survey, timelines: status === "running" || status === "elsewhere" ? asked.answer : undefined };
}

/**
 * Reports what a server's scrub has found. A server of an older version has no scrub, so reports
 * nothing.
 */
async function scrubProblems(name: string, question: () => Promise<ScrubStatus>): Promise<Problem[]> {
  return ((await ask(question)).answer?.found ?? []).map(({ timeline_id, damage }) => ({
    what: `${name} has damaged files of timeline ${timeline_id}: ${damage.what}`,
    hint: damage.hint,
    down: true,
  }));
}

/**
 * Reports the tenants that wait because of their limits. A server of an older version doesn't say
 * it.
 */
async function heldBackProblems(name: string, question: () => Promise<HeldBackJson[]>): Promise<Problem[]> {
  return ((await ask(question)).answer ?? []).map(({ tenant_id, by, limit }) => ({
    what: by === "bytes"
      ? `tenant ${tenant_id} has used the ${limit} bytes on disk that it may: ${name} takes in its WAL at ${TRICKLE_BYTES_PER_S} bytes/s`
      : `tenant ${tenant_id} writes more WAL than the ${limit} bytes/s that it may: ${name} slows it down`,
    hint: `"zenith tenant limits ${tenant_id} --${OPTION[by]} <n>" raises the limit`,
    down: false,
  }));
}

function stateOf(pidFile: PidFileState["state"], answers: boolean): ServerState {
  if (pidFile === "elsewhere") return "elsewhere";
  if (pidFile === "running") return answers ? "running" : "silent";
  return pidFile === "stale" ? "crashed" : "stopped";
}

interface ServerClues {
  /** Why the server could not be queried. */
  readonly error: string | undefined;
  readonly log: string;
  /** The setting of its listen address. */
  readonly config: string;
}

async function serverProblem(
  name: string,
  logCommand: string,
  status: ServerState,
  address: { host: string; port: number },
  clues: ServerClues,
): Promise<Problem> {
  if (status === "elsewhere") {
    const how = clues.error === undefined ? "" : `, and does not answer from here: ${clues.error}`;
    return { what: `${name} ${RUNS_ELSEWHERE}${how}`, hint: STOP_IT_THERE, down: how !== "" };
  }
  if (status === "silent") {
    return {
      what: `${name} runs but does not answer: ${clues.error}`,
      hint: `"zenith ${logCommand}" may say why; "zenith restart -m immediate" restarts it and loses nothing`,
      down: true,
    };
  }
  const taken = await whyNotFree(address);
  if (taken !== undefined) {
    return {
      what: `${name} does not run, and ${formatHostPort(address)} ${taken}`,
      hint: `stop that program, or change ${clues.config}; then "zenith start"`,
      down: true,
    };
  }
  const hint = `"zenith start" starts it; "zenith ${logCommand}" shows its log`;
  if (status === "stopped") return { what: name + NOT_RUNNING, hint, down: true };
  return { what: `${name} ${howItEnded(clues.log)}`, hint, down: true };
}
