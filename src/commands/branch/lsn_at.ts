/** `zenith lsn-at`: prints the LSN of a branch at a point in time. */
import { parseBranchName, type TenantId, type TimelineId } from "../../common/id.ts";
import { ZenithError } from "../../common/errors.ts";
import { formatLsn, type Lsn } from "../../common/lsn.ts";
import { type Moment, parseMoment } from "../../common/moment.ts";
import { untilBranchEndArrived, untilMomentArrived } from "../../control/branch_end.ts";
import { chooseTenant, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { type BranchInfo, PageServerClient } from "../../control/page_server_client.ts";
import { type Command, JSON_OPTION, optionText, requiredArg, TENANT_OPTION } from "../cli/command.ts";
import { print, printJson } from "../cli/output.ts";

export const lsnAtCommand: Command = {
  usage: "lsn-at <branch> <timestamp>",
  description: "Print the LSN at which all is there that was committed by a moment",
  options: [TENANT_OPTION, JSON_OPTION],
  completions: ["branch"],
  examples: [
    ['lsn-at main "2026-11-22 10:15:00"', "By the clock on the wall here"],
    ["lsn-at main 2026-11-22T09:15:00Z", "With a time zone"],
    ['lsn-at main "5m ago"', "Five minutes ago"],
    ["lsn-at main now", "The end of the branch"],
  ],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const name = parseBranchName(requiredArg(args, 0));
    const moment = parseTime(requiredArg(args, 1));
    await using client = new PageServerClient(pageServerAddress(environment));
    const branch = await client.branch(tenant, name);
    const { lsn, timeline_id } = await positionAt(client, tenant, branch, moment);
    if (options["json"] === true) printJson({ lsn: formatLsn(lsn), timeline_id });
    else if (timeline_id === branch.timeline_id) {
      print(formatLsn(lsn));
    } else {
      const owner = (await client.findBranch(tenant, timeline_id))?.name ?? timeline_id;
      print(`${formatLsn(lsn)}  on ${owner}, before ${name} began`);
    }
  },
};

/** A point in time, or the end of the branch. */
type Time = Exclude<Moment, { readonly kind: "lsn" }>;

/** Waits until the page server has the WAL, and returns the LSN and the timeline that has it. */
async function positionAt(
  client: PageServerClient,
  tenant: TenantId,
  branch: BranchInfo,
  moment: Time,
): Promise<{ lsn: Lsn; timeline_id: TimelineId }> {
  if (moment.kind === "time") {
    await untilMomentArrived(client, tenant, branch, moment.timestamp);
    return await client.lsnAt(tenant, branch.timeline_id, moment.timestamp);
  }
  await untilBranchEndArrived(client, tenant, branch);
  const { latest_valid_lsn, timeline_id } = await client.branch(tenant, parseBranchName(branch.name));
  return { lsn: latest_valid_lsn, timeline_id };
}

/** @throws {ZenithError} `invalid_argument` when it is an LSN, or no moment at all */
function parseTime(text: string): Time {
  const moment = parseMoment(text);
  if (moment.kind !== "lsn") return moment;
  throw new ZenithError("invalid_argument", `"${text}" is not a point in time`, {
    hint: "for example -5m, yesterday 14:00, 2026-11-22T09:30",
  });
}
