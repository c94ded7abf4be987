import { errorMessage, ZenithError } from "../common/errors.ts";
import { formatHostPort } from "../common/host_port.ts";
import { parseBranchName, type TenantId } from "../common/id.ts";
import { formatLsn, type Lsn, parseLsn } from "../common/lsn.ts";
import { readConditions } from "../compute/conditions.ts";
import { connectHint } from "../compute/postgres_conf.ts";
import { parseStorageChoice } from "../compute/storage.ts";
import { acknowledgedEnd, pageServerLag, untilBranchEndArrived } from "../control/branch_end.ts";
import {
  allComputePlaces,
  type ComputeInfo,
  type ComputePlace,
  createCompute,
  describeCompute,
  destroyCompute,
  findCompute,
  findComputePlace,
  startCompute,
  stopCompute,
} from "../control/computes.ts";
import {
  chooseTenant,
  type Environment,
  loadEnvironment,
  pageServerAddress,
} from "../control/environment.ts";
import { lastErrorInLog } from "../control/log_file.ts";
import { type BranchInfo, PageServerClient } from "../control/page_server_client.ts";
import { parseStopMode } from "../control/stop_process.ts";
import {
  type Command,
  JSON_OPTION,
  optionPort,
  optionText,
  type OptionValues,
  requiredArg,
  TENANT_OPTION,
} from "./command.ts";
import { PREWARM_OPTION, READ_ONLY_OPTION, STORAGE_OPTION } from "./compute.ts";
import { type Column, formatBytes, print, printList, Progress } from "./output.ts";
import { STOP_MODE_OPTION } from "./stop.ts";

export const pgListCommand: Command = {
  usage: "pg list",
  description: "List the Postgres of a tenant's branches",
  options: [TENANT_OPTION, JSON_OPTION],
  examples: [
    ["pg list", "One line per Postgres"],
  ],
  async run(_args, options) {
    const { environment, tenant } = context(options);
    const branches = await reachableBranches(environment, tenant);
    const listed = await Promise.all(
      allComputePlaces(environment).filter((found) => found.tenant === tenant)
        .map((found) => listCompute(found, branches)),
    );
    printList(listed, COLUMNS, computeJson, options);
  },
};

interface ListedCompute {
  readonly found: ComputePlace;
  /** null when its configuration can't be read. */
  readonly compute: ComputeInfo | null;
  /** What it looks at: its branch's end, or the past. */
  readonly lsn: Lsn | null;
  /** What the page server lacks of what the safekeepers have; null where there are none, or none answers. */
  readonly lagBytes: number | null;
  /** Why it broke down, or what is the matter with it. */
  readonly notes: readonly string[];
}

async function listCompute(
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
  return {
    found,
    compute,
    lsn: compute.readOnlyAt ?? branch?.latest_valid_lsn ?? null,
    lagBytes: compute.readOnlyAt === null ? await lag(compute, branch) : null,
    notes: notesOn(compute),
  };
}

const COLUMNS: readonly Column<ListedCompute>[] = [
  { title: "BRANCH", cell: ({ found }) => found.branch },
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
      const all = [...(compute === null || compute.readOnlyAt === null ? [] : ["read-only"]), ...notes];
      return found.status + (all.length === 0 ? "" : ` (${all.join("; ")})`);
    },
  },
];

function computeJson({ found, compute, lsn, lagBytes, notes }: ListedCompute): Record<string, unknown> {
  const readOnlyAt = compute?.readOnlyAt ?? null;
  return {
    tenant_id: found.tenant,
    branch: found.branch,
    timeline_id: compute?.identity.timeline ?? null,
    status: found.status,
    address: compute === null ? null : formatHostPort(compute.address),
    pid: found.pid,
    lsn: lsn === null ? null : formatLsn(lsn),
    read_only_lsn: readOnlyAt === null ? null : formatLsn(readOnlyAt),
    page_server_lag_bytes: lagBytes,
    notes,
    data: found.paths.dir,
    log: found.paths.log,
    postgres_log: found.paths.postgresLog,
  };
}

export const pgCreateCommand: Command = {
  usage: "pg create <branch>",
  description: "Make a Postgres for a branch, to be started by pg start",
  options: [
    TENANT_OPTION,
    { flags: "--port <port>", description: "Its port; the first free one from 55432 up when left out" },
  ],
  completions: ["branch"],
  examples: [
    ["pg create main", "On the next free port"],
    ["pg create dev --port 6000", "On a port of your choice"],
  ],
  async run(args, options) {
    const { environment, tenant } = context(options);
    const name = parseBranchName(requiredArg(args, 0));
    await using client = new PageServerClient(pageServerAddress(environment));
    const branch = (await client.branchList(tenant)).find((branch) => branch.name === name);
    if (branch === undefined) {
      throw new ZenithError("not_found", `tenant ${tenant} has no branch ${name}`, {
        hint: `make it with "zenith branch ${name} <start>"; "zenith branch" shows those there are`,
      });
    }
    const compute = await createCompute(environment, tenant, branch, optionPort(options, "port"));
    print(
      `Postgres for branch ${name} created, port ${compute.address.port}, configuration in ${compute.paths.pgdata}`,
    );
  },
};

export const pgStartCommand: Command = {
  usage: "pg start <branch>",
  description: "Start the Postgres of a branch at its end, or read-only in its past",
  options: [TENANT_OPTION, READ_ONLY_OPTION, STORAGE_OPTION, PREWARM_OPTION],
  completions: ["branch"],
  examples: [
    ["pg start main", "Goes on where the branch ends"],
    ["pg start main --lsn 0/223C288", "Only to look at how it was"],
    ["pg start main --prewarm", "What it used before it was stopped comes in the background"],
  ],
  async run(args, options) {
    const { environment, tenant } = context(options);
    const compute = findCompute(environment, tenant, parseBranchName(requiredArg(args, 0)));
    using progress = new Progress("starting Postgres");
    const storage = optionText(options, "storage");
    const lsn = optionText(options, "lsn");
    const readOnlyAt = lsn === undefined ? undefined : parseLsn(lsn);
    if (readOnlyAt !== undefined) await assertPast(environment, compute, readOnlyAt);
    await startCompute(environment, compute, {
      ...(storage === undefined ? {} : { storage: parseStorageChoice(storage) }),
      ...(options["prewarm"] === true ? { prewarm: true } : {}),
      ...(readOnlyAt === undefined ? {} : { readOnlyAt }),
      onProgress: (text) => progress.update(text),
    });
    print(`Postgres of branch ${compute.branch} started${lsn === undefined ? "" : `, read-only at ${lsn}`}`);
    print(`connect with: ${connectHint(compute.address)}`);
  },
};

export const pgStopCommand: Command = {
  usage: "pg stop <branch>",
  description: "Stop the Postgres of a branch",
  options: [
    TENANT_OPTION,
    STOP_MODE_OPTION,
    { flags: "--destroy", description: "Remove its directory and configuration too; the branch stays" },
  ],
  completions: ["branch"],
  examples: [
    ["pg stop main", "The data stay with the branch"],
    ["pg stop dev --destroy", "Its configuration goes too"],
  ],
  async run(args, options) {
    const { environment, tenant } = context(options);
    const compute = findComputePlace(environment, tenant, parseBranchName(requiredArg(args, 0)));
    using _progress = new Progress("stopping Postgres");
    const wasRunning = await stopCompute(compute, parseStopMode(optionText(options, "mode") ?? "fast"));
    print(`Postgres of branch ${compute.branch} ${wasRunning ? "stopped" : "is not running"}`);
    if (options["destroy"] === true) {
      destroyCompute(compute);
      print(`Postgres of branch ${compute.branch} destroyed; the branch and its data stay`);
    }
  },
};

/** What there is to say about its status. */
function notesOn(compute: ComputeInfo): string[] {
  if (compute.status === "crashed") {
    return [lastErrorInLog(compute.paths.log) ?? ""].filter((why) => why !== "");
  }
  return compute.status === "stopped" ? [] : readConditions(compute.paths);
}

async function lag(
  { tenant, identity }: ComputeInfo,
  branch: BranchInfo | undefined,
): Promise<number | null> {
  if (identity.walAcceptors.length === 0) return null;
  try {
    const end = await acknowledgedEnd(identity.walAcceptors, tenant, identity.timeline);
    if (branch === undefined) return null;
    return end === undefined ? 0 : pageServerLag(branch, end);
  } catch (error) {
    if (error instanceof ZenithError && error.kind === "unavailable") return null;
    throw error;
  }
}

function context(options: OptionValues): { environment: Environment; tenant: TenantId } {
  const environment = loadEnvironment();
  return { environment, tenant: chooseTenant(environment, optionText(options, "tenantid")) };
}

/** The page server would wait for an LSN of the future; nobody is going to write it here. */
async function assertPast(environment: Environment, compute: ComputeInfo, lsn: Lsn): Promise<void> {
  await using client = new PageServerClient(pageServerAddress(environment));
  const find = async () =>
    (await client.branchList(compute.tenant)).find(({ timeline_id }) =>
      timeline_id === compute.identity.timeline
    );
  let branch = await find();
  if (branch !== undefined && lsn > branch.latest_valid_lsn) {
    // What the safekeepers have is the past too.
    await untilBranchEndArrived(client, compute.tenant, branch);
    branch = await find();
  }
  if (branch !== undefined && lsn > branch.latest_valid_lsn) {
    throw new ZenithError(
      "out_of_range",
      `LSN ${formatLsn(lsn)} is in the future: branch ${branch.name} ends at ${
        formatLsn(branch.latest_valid_lsn)
      }`,
    );
  }
}

/** undefined when the page server doesn't answer: the computes can be listed without it. */
async function reachableBranches(
  environment: Environment,
  tenant: TenantId,
): Promise<BranchInfo[] | undefined> {
  await using client = new PageServerClient(pageServerAddress(environment));
  try {
    return await client.branchList(tenant);
  } catch (error) {
    if (error instanceof ZenithError && error.kind === "unavailable") return undefined;
    throw error;
  }
}
