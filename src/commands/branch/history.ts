/**
 * `zenith branch history`: shows a branch's ancestors, and how far back its history is retained.
 */
import { type BranchName, parseBranchName } from "../../common/id.ts";
import { formatLsn } from "../../common/lsn.ts";
import { chooseTenant, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import {
  type BranchInfo,
  type HistoryPart,
  PageServerClient,
  type TenantConfig,
} from "../../control/page_server_client.ts";
import { type Command, JSON_OPTION, optionText, requiredArg, TENANT_OPTION } from "../cli/command.ts";
import { formatBytes, formatTable, print, printJson } from "../cli/output.ts";

export const branchHistoryCommand: Command = {
  usage: "branch history <name>",
  description: "Show what a branch comes from, and how far back it can be looked at",
  options: [TENANT_OPTION, JSON_OPTION],
  completions: ["branch"],
  examples: [["branch history dev", "Its ancestors, with the LSN and time at which each was left"]],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const name = parseBranchName(requiredArg(args, 0));
    await using client = new PageServerClient(pageServerAddress(environment));
    const branch = await client.branch(tenant, name);
    const branches = await client.branchList(tenant);
    const parts = (await client.timelineHistory(tenant, branch.timeline_id)).map((part) => ({
      ...part,
      branch: branches.find(({ timeline_id }) => timeline_id === part.timeline_id)?.name ?? null,
    }));
    const config = await client.tenantConfig(tenant);
    const kept = keptBy(name, branches);
    if (options["json"] === true) printJson(historyJson(name, parts, config, kept));
    else printHistory(parts, config, kept);
  },
};

interface NamedPart extends HistoryPart {
  /** Null when no branch names that timeline. */
  readonly branch: string | null;
}

/** Lists branches that `branch restore` has kept under its default name. */
function keptBy(name: BranchName, branches: readonly BranchInfo[]): BranchInfo[] {
  const prefix = `${name}-before-`;
  return branches.filter((branch) =>
    branch.name.startsWith(prefix) && /^\d{8}-\d{6}$/.test(branch.name.slice(prefix.length))
  );
}

function historyJson(
  name: BranchName,
  parts: readonly NamedPart[],
  { gc_horizon_bytes, pitr_interval }: TenantConfig,
  kept: readonly BranchInfo[],
): unknown {
  return {
    branch: name,
    parts: parts.map((part) => ({
      branch: part.branch,
      timeline_id: part.timeline_id,
      lsn: formatLsn(part.lsn),
      time: part.time,
      kept_from_lsn: formatLsn(part.kept_from_lsn),
      kept_from: part.kept_from,
    })),
    kept_as: kept.map((branch) => branch.name),
    gc_horizon_bytes,
    pitr_interval,
  };
}

function printHistory(
  parts: readonly NamedPart[],
  { gc_horizon_bytes, pitr_interval }: TenantConfig,
  kept: readonly BranchInfo[],
): void {
  const rows = parts.map((part, i) => [
    part.branch ?? part.timeline_id,
    i === 0 ? "its end" : "left",
    formatLsn(part.lsn),
    part.time ?? "",
    formatLsn(part.kept_from_lsn),
    part.kept_from ?? "",
  ]);
  for (const line of formatTable([["BRANCH", "", "LSN", "LAST COMMIT", "KEPT FROM", "COMMIT"], ...rows])) {
    print(line);
  }
  print(`history is kept for ${pitr_interval}, and for ${formatBytes(gc_horizon_bytes)} of WAL`);
  if (kept.length > 0) print(`it was restored; what it was: ${kept.map(({ name }) => name).join(", ")}`);
}
