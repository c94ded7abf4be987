/** `zenith branch`: creates a branch, or lists the branches. */
import { parseDuration } from "../../common/duration.ts";
import { ZenithError } from "../../common/errors.ts";
import { parseBranchName, type TenantId } from "../../common/id.ts";
import { formatLsn, parseLsn } from "../../common/lsn.ts";
import { formatTimestamp, parseTimestamp } from "../../common/timestamp.ts";
import { untilBranchEndArrived, untilMomentArrived } from "../../control/branch_end.ts";
import { chooseTenant, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { printBranches, warnAboutDamage } from "./list.ts";
import { type Command, JSON_OPTION, optionText, TENANT_OPTION } from "../cli/command.ts";
import { formatBranchTree, print } from "../cli/output.ts";

export const branchCommand: Command = {
  usage: "branch [name] [start]",
  description: "Show the branches, or make one from a branch, branch@LSN or branch@timestamp",
  options: [
    TENANT_OPTION,
    {
      flags: "--expires <duration>",
      description: "Remove the new branch by itself after that time: 90s, 30m, 2h, 7d",
    },
    JSON_OPTION,
  ],
  completions: [[], "branch"],
  examples: [
    ["branch", "The branches as a tree"],
    ["branch dev main", "From the end of main, as it is now"],
    ["branch before main@0/223C288", "From an LSN of main's past"],
    ['branch before2 "main@2026-11-22 10:15:00"', "From a moment, by the clock on the wall here"],
    ["branch tmp main --expires 2h", "One that goes by itself"],
  ],
  async run([name, start], options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const expires = optionText(options, "expires");
    const lifetimeMs = expires === undefined ? undefined : parseDuration(expires);
    await using client = new PageServerClient(pageServerAddress(environment));
    if (name === undefined) {
      const branches = await client.branchList(tenant);
      if (options["json"] === true) printBranches(branches, options);
      else for (const line of formatBranchTree(branches)) print(line);
      return warnAboutDamage(await client.branchDamaged(tenant));
    }
    const branchName = parseBranchName(name);
    if (start === undefined) {
      throw new ZenithError("invalid_argument", `where is branch ${name} to start?`, {
        hint: `for example "zenith branch ${name} main", main@0/16B5A50 or main@2026-11-22T09:30`,
      });
    }
    await untilStartArrived(client, tenant, start);
    const branch = await client.branchCreate(tenant, branchName, withZone(start), lifetimeMs);
    const at = branch.ancestor_lsn === null ? "" : ` at ${formatLsn(branch.ancestor_lsn)}`;
    const until = branch.expires_at === null ? "" : `, until ${branch.expires_at}`;
    print(`branch ${branch.name} created${at}, timeline ${branch.timeline_id}${until}`);
  },
};

/**
 * The end of a branch is where its last acknowledged commit is, and what was committed by some time
 * may be on its way still.
 */
async function untilStartArrived(
  client: PageServerClient,
  tenant: TenantId,
  start: string,
): Promise<void> {
  const [name, moment = ""] = start.split("@", 2);
  const ancestor = (await client.branchList(tenant)).find((branch) =>
    branch.name === name || branch.timeline_id === name
  );
  if (ancestor === undefined) return;
  const isTime = /^\d{4}-/.test(moment);
  if (moment !== "" && !isTime && !moment.includes("/")) {
    throw new ZenithError("invalid_argument", `"${moment}" is neither an LSN nor a point in time`, {
      hint: `for example ${name}@0/16B5A50 or ${name}@2026-11-22T09:30`,
    });
  }
  if (isTime) {
    await untilMomentArrived(client, tenant, ancestor, parseTimestamp(moment, "local"));
  } else if (moment === "" || parseLsn(moment) > ancestor.next_lsn) {
    await untilBranchEndArrived(client, tenant, ancestor);
  }
}

/**
 * `main@2026-11-22 09:30` means the clock on the wall here; the page server may be elsewhere, and
 * is told which moment that is.
 */
function withZone(start: string): string {
  const match = /^([^@]*)@(\d{4}-.*)$/.exec(start);
  return match === null ? start : `${match[1]}@${formatTimestamp(parseTimestamp(match[2], "local"))}`;
}
