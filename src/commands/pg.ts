import { ZenithError } from "../common/errors.ts";
import { formatHostPort } from "../common/host_port.ts";
import { parseBranchName, type TenantId } from "../common/id.ts";
import { formatLsn, type Lsn, parseLsn } from "../common/lsn.ts";
import { readConditions } from "../compute/conditions.ts";
import { connectHint } from "../compute/postgres_conf.ts";
import { parseStorageChoice } from "../compute/storage.ts";
import { acknowledgedEnd, untilBranchEndArrived } from "../control/branch_end.ts";
import {
  type ComputeInfo,
  createCompute,
  destroyCompute,
  findCompute,
  listComputes,
  startCompute,
  stopCompute,
} from "../control/computes.ts";
import {
  chooseTenant,
  type Environment,
  loadEnvironment,
  pageServerAddress,
} from "../control/environment.ts";
import { type BranchInfo, PageServerClient } from "../control/page_server_client.ts";
import { lastErrorInLog } from "../control/page_server_process.ts";
import { parseStopMode } from "../control/stop_process.ts";
import {
  type Command,
  optionPort,
  optionText,
  type OptionValues,
  requiredArg,
  TENANT_OPTION,
} from "./command.ts";
import { READ_ONLY_OPTION, STORAGE_OPTION } from "./compute.ts";
import { formatBytes, formatTable, print, Progress } from "./output.ts";
import { STOP_MODE_OPTION } from "./stop.ts";

export const pgListCommand: Command = {
  usage: "pg list",
  description: "List the Postgres of a tenant's branches",
  options: [TENANT_OPTION],
  async run(_args, options) {
    const { environment, tenant } = context(options);
    const computes = listComputes(environment, tenant);
    const branches = await reachableBranches(environment, tenant);
    const rows = await Promise.all(computes.map(async (compute) => {
      const branch = branches?.find((branch) => branch.timeline_id === compute.identity.timeline);
      const lsn = compute.readOnlyAt ?? branch?.latest_valid_lsn;
      const notes = notesOn(compute);
      const note = notes.length === 0 ? "" : ` (${notes.join("; ")})`;
      return [
        compute.branch,
        formatHostPort(compute.address),
        lsn === undefined ? "?" : formatLsn(lsn),
        compute.readOnlyAt === null ? await lag(compute, branch) : "-",
        compute.status + note,
      ];
    }));
    for (const line of formatTable([["BRANCH", "ADDRESS", "LSN", "LAG", "STATUS"], ...rows])) print(line);
  },
};

export const pgCreateCommand: Command = {
  usage: "pg create <branch>",
  description: "Make a Postgres for a branch, to be started by pg start",
  options: [
    TENANT_OPTION,
    { flags: "--port <port>", description: "Its port; the first free one from 55432 up when left out" },
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
  description:
    "Start the Postgres of a branch with the branch's latest data, or read-only at an LSN of its past",
  options: [TENANT_OPTION, READ_ONLY_OPTION, STORAGE_OPTION],
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
  async run(args, options) {
    const { environment, tenant } = context(options);
    const compute = findCompute(environment, tenant, parseBranchName(requiredArg(args, 0)));
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
  if (compute.status === "stopped") return [];
  return [...(compute.readOnlyAt === null ? [] : ["read-only"]), ...readConditions(compute.paths)];
}

/** What the page server lacks of what the safekeepers have; `-` where there are none. */
async function lag({ tenant, identity }: ComputeInfo, branch: BranchInfo | undefined): Promise<string> {
  if (identity.walAcceptors.length === 0) return "-";
  try {
    const end = await acknowledgedEnd(identity.walAcceptors, tenant, identity.timeline);
    if (branch === undefined) return "?";
    return formatBytes(Math.max(0, (end ?? branch.latest_valid_lsn) - branch.latest_valid_lsn));
  } catch (error) {
    if (error instanceof ZenithError && error.kind === "unavailable") return "?";
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
