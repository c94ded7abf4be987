/**
 * `branch get`, `set-expiry`, `protect` and `unprotect`: show and change the properties of one
 * branch.
 */
import { type BranchName, parseBranchName, type TenantId } from "../../common/id.ts";
import { formatLsn } from "../../common/lsn.ts";
import { chooseTenant, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { type BranchInfo, PageServerClient } from "../../control/page_server_client.ts";
import {
  type Command,
  JSON_OPTION,
  optionText,
  type OptionValues,
  requiredArg,
  TENANT_OPTION,
} from "../cli/command.ts";
import { formatBytes, formatTable, print, printJson } from "../cli/output.ts";
import { parseLifetime } from "./branch.ts";
import { branchJson } from "./list.ts";

export const branchGetCommand: Command = {
  usage: "branch get <name>",
  description: "Show all that is known of one branch",
  options: [TENANT_OPTION, JSON_OPTION],
  completions: ["branch"],
  examples: [["branch get dev", "All that is known of it"]],
  async run(args, options) {
    const { client, tenant, name } = open(args, options);
    await using _client = client;
    const branch = await client.branch(tenant, name);
    if (options["json"] === true) return printJson(branchJson(branch));
    const parent = branch.ancestor_id === null
      ? undefined
      : await client.findBranch(tenant, branch.ancestor_id);
    for (const line of formatTable(describe(branch, parent?.name))) print(line);
  },
};

function describe(branch: BranchInfo, parent: string | undefined): [string, string][] {
  const from = branch.ancestor_id === null || branch.ancestor_lsn === null
    ? "its tenant's beginning"
    : `${parent ?? branch.ancestor_id} at ${formatLsn(branch.ancestor_lsn)}`;
  return [
    ["branch", branch.name],
    ["timeline", branch.timeline_id],
    ["comes from", from],
    ["ends at", formatLsn(branch.latest_valid_lsn)],
    ["data", formatBytes(branch.logical_size_bytes)],
    ["on disk", formatBytes(branch.physical_size_bytes)],
    ["expires", branch.expires_at ?? "never"],
    ["protected", branch.is_protected ? "yes" : "no"],
    ["masked", masked(branch)],
  ];
}

function masked({ masked_from_lsn: from, requires_mask: isRequired }: BranchInfo): string {
  if (from !== null) return `its history begins at ${formatLsn(from)}`;
  return isRequired ? "no: it is branched by its masks alone" : "no";
}

export const branchSetExpiryCommand: Command = {
  usage: "branch set-expiry <name> <duration>",
  description: "Delete a branch after that time, from now on, or never",
  options: [TENANT_OPTION, JSON_OPTION],
  completions: ["branch", ["2h", "1d", "7d", "never"]],
  examples: [
    ["branch set-expiry dev 2h", "It goes in two hours"],
    ["branch set-expiry dev never", "It stays"],
  ],
  async run(args, options) {
    const lifetime = requiredArg(args, 1);
    const lifetimeMs = lifetime === "never" ? undefined : parseLifetime(lifetime);
    const { client, tenant, name } = open(args, options);
    await using _client = client;
    const branch = await client.branchSetExpiry(tenant, name, lifetimeMs);
    if (options["json"] === true) return printJson(branchJson(branch));
    print(
      branch.expires_at === null
        ? `branch ${name} never expires`
        : `branch ${name} expires ${branch.expires_at}`,
    );
  },
};

export const branchProtectCommand: Command = protectCommand(
  "protect",
  "Refuse to delete, restore or expire a branch",
  "From now on it stays as it is, but for what its Postgres writes",
);

export const branchUnprotectCommand: Command = protectCommand(
  "unprotect",
  "Allow that again",
  "As every other branch",
);

function protectCommand(verb: "protect" | "unprotect", description: string, what: string): Command {
  return {
    usage: `branch ${verb} <name>`,
    description,
    options: [TENANT_OPTION, JSON_OPTION],
    completions: ["branch"],
    examples: [[`branch ${verb} main`, what]],
    async run(args, options) {
      const { client, tenant, name } = open(args, options);
      await using _client = client;
      const branch = await client.branchProtect(tenant, name, verb === "protect");
      if (options["json"] === true) return printJson(branchJson(branch));
      print(`branch ${name} is ${branch.is_protected ? "protected" : "not protected"}`);
    },
  };
}

function open(
  args: readonly (string | undefined)[],
  options: OptionValues,
): { client: PageServerClient; tenant: TenantId; name: BranchName } {
  const environment = loadEnvironment();
  return {
    client: new PageServerClient(pageServerAddress(environment)),
    tenant: chooseTenant(environment, optionText(options, "tenantid")),
    name: parseBranchName(requiredArg(args, 0)),
  };
}
