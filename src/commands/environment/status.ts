/** `zenith status`: shows what runs, what is wrong, and what to do about it. */
import { loadEnvironment } from "../../control/environment.ts";
import type { BranchSurvey } from "../../control/survey/branches.ts";
import type { ComputeSurvey } from "../../control/survey/computes.ts";
import type { ObjectStoreSurvey } from "../../control/survey/object_store.ts";
import { type Survey, surveyEnvironment, within } from "../../control/survey/survey.ts";
import { type Command, EXIT_UNAVAILABLE, JSON_OPTION } from "../cli/command.ts";
import { formatBytes, formatTable, print, printJson, Progress } from "../cli/output.ts";

export const statusCommand: Command = {
  usage: "status",
  description: "Show what runs, where its data and logs are, how far it is, and what is wrong",
  options: [JSON_OPTION, { flags: "--all", description: "Every branch, also those without a Postgres" }],
  examples: [
    ["status", "The exit code is 3 when something that should run does not, or data are damaged"],
    ["status --json", "The same for a program"],
  ],
  async run(_args, options) {
    const environment = loadEnvironment();
    let survey: Survey;
    {
      using _progress = new Progress("asking the servers");
      survey = await surveyEnvironment(environment);
    }
    if (options["json"] === true) printJson(survey);
    else for (const line of describe(survey, options["all"] === true)) print(line);
    return survey.problems.some(({ down }) => down) ? EXIT_UNAVAILABLE : 0;
  },
};

function describe(survey: Survey, all: boolean): string[] {
  const free = `${formatBytes(survey.disk_free_bytes)} of ${formatBytes(survey.disk_total_bytes)} free`;
  return [
    `environment ${survey.directory}, ${free}`,
    "",
    ...formatTable(servers(survey)),
    ...serve(survey),
    ...objectStore(survey),
    ...branches(survey, all),
    ...problems(survey),
  ];
}

function servers(survey: Survey): string[][] {
  const { page_server: pageServer, safekeepers } = survey;
  const row = (name: string, server: Survey["page_server"] | Survey["safekeepers"][number]) => [
    name,
    server.status,
    server.address,
    server.pid === null ? "-" : String(server.pid),
    server.log === null ? "-" : within(survey, server.log),
  ];
  return [
    ["SERVER", "STATUS", "ADDRESS", "PROCESS", "LOG"],
    row(pageServer.remote ? "remote page server" : "page server", pageServer),
    ...safekeepers.map((safekeeper) => row(`safekeeper ${safekeeper.id}`, safekeeper)),
  ];
}

function serve({ serve_pid: pid }: Survey): string[] {
  return pid === null ? [] : ["", `zenith serve, process ${pid}, keeps all of it running`];
}

function objectStore({ object_store: store }: Survey): string[] {
  if (store === null) return [];
  if (store.pending_since === null) {
    return ["", `everything is in the object store ${store.url}`, ...encryption(store), ...layerDisk(store)];
  }
  const what = store.pending_bytes === 0 ? "the last changes are" : `${formatBytes(store.pending_bytes)} are`;
  return [
    "",
    `${what} not in the object store ${store.url} yet, since ${store.pending_since}`,
    ...encryption(store),
    ...layerDisk(store),
  ];
}

/** Whether what is uploaded is encrypted, and how much there is from before it was. */
function encryption({ encryption: how, tenants }: ObjectStoreSurvey): string[] {
  if (how === null) return ["what is uploaded is not encrypted"];
  const plain = tenants.reduce((sum, { plain_bytes = 0 }) => sum + plain_bytes, 0);
  const but = plain === 0 ? "" : `; ${formatBytes(plain)} from before it was are not`;
  return [`what is uploaded is encrypted with key ${how.key_id ?? "?"} of ${how.key_file}${but}`];
}

/** What layers take on the page server's disk, when that is limited. */
function layerDisk({ disk }: ObjectStoreSurvey): string[] {
  if (disk === null || disk.limit_bytes === null) return [];
  const { fetched_bytes, uploaded_bytes, pending_bytes, limit_bytes } = disk;
  const used = formatBytes(fetched_bytes + uploaded_bytes + pending_bytes);
  return [`layers take ${used} of ${formatBytes(limit_bytes)} on the page server's disk`];
}

/**
 * Returns a line per branch and its Postgres. When the page server doesn't answer, only branches
 * with a Postgres are known.
 */
function branches(survey: Survey, all: boolean): string[] {
  const { computes } = survey;
  const known = new Map<string, BranchSurvey>();
  for (const branch of survey.branches) known.set(`${branch.tenant_id}/${branch.branch}`, branch);
  const withCompute = new Set(computes.map(({ tenant_id, name }) => `${tenant_id}/${name}`));
  const quiet = [...known].filter(([key, branch]) => !withCompute.has(key) && !isBehind(branch));
  const hidden = all || quiet.length <= MOST_QUIET ? new Set() : new Set(quiet.map(([key]) => key));
  const shown = [...new Set([...known.keys(), ...withCompute])].filter((key) => !hidden.has(key)).sort();
  const severalTenants = new Set(shown.map((key) => key.split("/")[0])).size > 1;
  const rows = shown.map((key) => {
    const tenant = key.slice(0, key.indexOf("/"));
    const name = key.slice(tenant.length + 1);
    const branch = known.get(key);
    const compute = computes.find((compute) => compute.tenant_id === tenant && compute.name === name);
    const looksBack = compute !== undefined && compute.name !== compute.branch;
    const past = compute?.read_only_lsn ?? null;
    return [
      ...(severalTenants ? [tenant] : []),
      name,
      compute === undefined ? "-" : compute.status + readOnly(compute),
      compute?.address ?? "-",
      compute?.pid === null || compute === undefined ? "-" : String(compute.pid),
      looksBack ? past ?? compute.replay_lsn ?? "?" : branch?.latest_valid_lsn ?? "?",
      looksBack ? replayLag(compute) : lag(branch),
      looksBack ? "-" : formatBytes(branch?.logical_size_bytes),
      looksBack ? "-" : formatBytes(branch?.physical_size_bytes),
      compute === undefined ? "-" : within(survey, compute.data),
    ];
  });
  const titles = [
    ...(severalTenants ? ["TENANT"] : []),
    "BRANCH",
    "POSTGRES",
    "ADDRESS",
    "PROCESS",
    "LSN",
    "BEHIND",
    "DATA",
    "ON DISK",
    "DIRECTORY",
  ];
  return [
    ...(rows.length === 0 ? [] : ["", ...formatTable([titles, ...rows])]),
    ...(hidden.size === 0
      ? []
      : [`and ${hidden.size} branches without a Postgres: "zenith status --all" shows them`]),
  ];
}

function readOnly({ read_only_lsn: past, replay_lsn: replayed }: ComputeSurvey): string {
  if (past !== null) return `, read-only at ${past}`;
  return replayed === null ? "" : ", read-only";
}

/** How far a replica lags behind the durable WAL. */
function replayLag({ replay_lag_bytes: bytes }: ComputeSurvey): string {
  return bytes === null || bytes === 0 ? "-" : formatBytes(bytes);
}

/** Up to this many idle branches are shown along with the others. */
const MOST_QUIET = 20;

function isBehind(branch: BranchSurvey): boolean {
  return lag(branch) !== "-";
}

/** How far each server lags behind the durable WAL. */
function lag(branch: BranchSurvey | undefined): string {
  if (branch === undefined) return "?";
  const late = branch.safekeepers
    .filter(({ lag_bytes }) => lag_bytes !== null && lag_bytes > 0)
    .map(({ id, lag_bytes }) => `safekeeper ${id} ${formatBytes(lag_bytes)}`);
  const pageServer = branch.page_server_lag_bytes ?? 0;
  if (pageServer > 0) late.unshift(`page server ${formatBytes(pageServer)}`);
  return late.length === 0 ? "-" : late.join(", ");
}

function problems(survey: Survey): string[] {
  if (survey.problems.length === 0) return ["", "all is well"];
  return survey.problems.flatMap(({ what, hint }) => ["", `problem: ${what}`, `hint: ${hint}`]);
}
