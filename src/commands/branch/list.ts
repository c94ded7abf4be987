/** `zenith branch list`: lists the branches of a tenant. */
import { formatLsn } from "../../common/lsn.ts";
import { chooseTenant, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { type BranchInfo, type DamagedBranch, PageServerClient } from "../../control/page_server_client.ts";
import { type Command, JSON_OPTION, optionText, type OptionValues, TENANT_OPTION } from "../cli/command.ts";
import { type Column, formatBytes, printList } from "../cli/output.ts";

export const branchListCommand: Command = {
  usage: "branch list",
  description: "List the branches of a tenant with their ends and sizes",
  options: [TENANT_OPTION, JSON_OPTION],
  examples: [
    ["branch list", "One line per branch"],
  ],
  async run(_args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    await using client = new PageServerClient(pageServerAddress(environment));
    printBranches(await client.branchList(tenant), options);
    warnAboutDamage(await client.branchDamaged(tenant));
  },
};

const COLUMNS: readonly Column<BranchInfo>[] = [
  { title: "BRANCH", cell: (branch) => branch.name },
  { title: "TIMELINE", cell: (branch) => branch.timeline_id },
  { title: "LSN", cell: (branch) => formatLsn(branch.latest_valid_lsn) },
  { title: "DATA", cell: (branch) => formatBytes(branch.logical_size_bytes) },
  { title: "ON DISK", cell: (branch) => formatBytes(branch.physical_size_bytes) },
  {
    title: "EXPIRES",
    cell: (branch) => branch.is_protected ? "never (protected)" : branch.expires_at ?? "never",
  },
];

export function printBranches(branches: readonly BranchInfo[], options: OptionValues): void {
  printList(branches, COLUMNS, branchJson, options);
}

/** The JSON of a branch: docs/cli.md describes each key. */
export function branchJson(branch: BranchInfo): Readonly<Record<string, unknown>> {
  return {
    branch: branch.name,
    timeline_id: branch.timeline_id,
    latest_valid_lsn: formatLsn(branch.latest_valid_lsn),
    ancestor_id: branch.ancestor_id,
    ancestor_lsn: branch.ancestor_lsn === null ? null : formatLsn(branch.ancestor_lsn),
    expires_at: branch.expires_at,
    protected: branch.is_protected,
    requires_mask: branch.requires_mask,
    masked_from_lsn: branch.masked_from_lsn === null ? null : formatLsn(branch.masked_from_lsn),
    logical_size_bytes: branch.logical_size_bytes ?? null,
    physical_size_bytes: branch.physical_size_bytes ?? null,
  };
}

/** Warns about damaged branches, which are missing from the list. */
export function warnAboutDamage(damaged: readonly DamagedBranch[]): void {
  for (const { damage } of damaged) process.stderr.write(`zenith: ${damage.what}\nhint: ${damage.hint}\n`);
}
