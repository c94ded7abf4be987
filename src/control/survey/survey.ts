/**
 * Surveys an environment's parts, their state and their problems, for `zenith status`. The result
 * can be printed as JSON unchanged.
 */
import { relative } from "node:path";
import { allComputePlaces, isUp, listDeletions } from "../compute_places.ts";
import { type Environment, hasLocalPageServer, pageServerAddress } from "../environment.ts";
import { PageServerClient } from "../page_server_client.ts";
import { listSafekeepers } from "../safekeepers.ts";
import { servePid } from "../serve_process.ts";
import { asksForTokens } from "../server_tokens.ts";
import { type BranchSurvey, stuckReceivers, surveyBranches } from "./branches.ts";
import { certificateProblems } from "./certificate.ts";
import { type ComputeSurvey, surveyCompute } from "./computes.ts";
import { diskOf } from "./disk.ts";
import { type ObjectStoreSurvey, surveyObjectStore } from "./object_store.ts";
import { NOT_RUNNING, type Problem } from "./problem.ts";
import { standbyProblems } from "./standbys.ts";
import {
  type PageServerSurvey,
  type SafekeeperSurvey,
  surveyPageServer,
  surveySafekeeper,
} from "./servers.ts";

export interface Survey {
  readonly directory: string;
  readonly disk_free_bytes: number;
  readonly disk_total_bytes: number;
  readonly page_server: PageServerSurvey;
  /** Null when there is none, or the page server does not answer. */
  readonly object_store: ObjectStoreSurvey | null;
  readonly safekeepers: readonly SafekeeperSurvey[];
  /** The process of `zenith serve`, which starts again what ends; null when it does not run. */
  readonly serve_pid: number | null;
  readonly computes: readonly ComputeSurvey[];
  readonly branches: readonly BranchSurvey[];
  readonly problems: readonly Problem[];
}

/** Below this, the disk counts as nearly full. */
export const DISK_LOW_BYTES = 1 << 30;

/**
 * Checks every process and queries every server. A server that is down is a finding, not an error.
 */
export async function surveyEnvironment(environment: Environment): Promise<Survey> {
  const problems: Problem[] = [];
  await using client = new PageServerClient(pageServerAddress(environment));
  const [server, safekeepers] = await Promise.all([
    surveyPageServer(environment, client, problems),
    Promise.all(listSafekeepers(environment).map((info) => surveySafekeeper(environment, info, problems))),
  ]);
  const objectStore = server.answer === undefined ? null : await surveyObjectStore(client, problems);
  const computes = await Promise.all(
    allComputePlaces(environment).map((found) => surveyCompute(environment, found, problems)),
  );
  const branches = server.answer === undefined
    ? []
    : await surveyBranches(client, environment.config.default_tenant_id, safekeepers, problems);
  if (server.answer !== undefined) problems.push(...stuckReceivers(server.answer, branches, computes));
  problems.push(...standbyProblems(safekeepers, branches), ...openToEverybody(environment));
  problems.push(...unfinishedDeletions(environment), ...certificateProblems(environment));
  const disk = surveyDisk(environment, problems);
  const servers = [server.survey, ...safekeepers.map(({ survey }) => survey)];
  if (servers.every(({ status }) => status === "stopped")) {
    // Replace the problem of each stopped server by a single one.
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
    object_store: objectStore,
    safekeepers: safekeepers.map(({ survey }) => survey),
    serve_pid: servePid(environment),
    computes,
    branches,
    problems,
  };
}

function unfinishedDeletions(environment: Environment): Problem[] {
  return listDeletions(environment).map((compute) => ({
    what: `branch ${compute.name} is deleted, its Postgres ${
      isUp(compute) ? "is still ending" : "not removed yet"
    }`,
    hint: isUp(compute)
      ? "its supervisor removes it then"
      : '"zenith start" removes it, and so does a new Postgres of that name',
    down: false,
  }));
}

/** An environment that an earlier version has made has no keys yet. */
function openToEverybody(environment: Environment): Problem[] {
  if (!hasLocalPageServer(environment) || environment.config.insecure === true) return [];
  if (asksForTokens(environment)) return [];
  return [{
    what: "the servers ask nobody who he is: an earlier version has made this environment, without keys",
    hint: '"zenith stop", then "zenith start" makes keys and tokens',
    down: false,
  }];
}

function surveyDisk(
  environment: Environment,
  problems: Problem[],
): { disk_free_bytes: number; disk_total_bytes: number } {
  const { freeBytes, sizeBytes } = diskOf(environment);
  if (freeBytes < DISK_LOW_BYTES) {
    problems.push({
      what: `the disk of ${environment.paths.root} has ${Math.floor(freeBytes / (1 << 20))} MiB left`,
      hint: "make room: when it is full, commits wait until there is some again",
      down: false,
    });
  }
  return { disk_free_bytes: freeBytes, disk_total_bytes: sizeBytes };
}

/** Shortens a path below the environment's directory to a relative one. */
export function within(survey: Survey, path: string): string {
  const short = relative(survey.directory, path);
  return short.startsWith("..") || short === "" ? path : short;
}
