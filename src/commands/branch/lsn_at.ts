/** `zenith lsn-at`: prints the LSN of a branch at a point in time. */
import { parseBranchName } from "../../common/id.ts";
import { ZenithError } from "../../common/errors.ts";
import { formatLsn } from "../../common/lsn.ts";
import { parseMoment } from "../../common/moment.ts";
import { untilMomentArrived } from "../../control/branch_end.ts";
import { chooseTenant, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { type Command, optionText, requiredArg, TENANT_OPTION } from "../cli/command.ts";
import { print } from "../cli/output.ts";

export const lsnAtCommand: Command = {
  usage: "lsn-at <branch> <timestamp>",
  description: "Print the LSN at which all is there that was committed by a moment",
  options: [TENANT_OPTION],
  completions: ["branch"],
  examples: [
    ['lsn-at main "2026-11-22 10:15:00"', "By the clock on the wall here"],
    ["lsn-at main 2026-11-22T09:15:00Z", "With a time zone"],
    ['lsn-at main "5m ago"', "Five minutes ago"],
  ],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const name = parseBranchName(requiredArg(args, 0));
    const timestamp = parseTime(requiredArg(args, 1));
    await using client = new PageServerClient(pageServerAddress(environment));
    const branch = await client.branch(tenant, name);
    await untilMomentArrived(client, tenant, branch, timestamp);
    const { lsn, timeline_id } = await client.lsnAt(tenant, branch.timeline_id, timestamp);
    if (timeline_id === branch.timeline_id) {
      print(formatLsn(lsn));
    } else {
      const owner = (await client.findBranch(tenant, timeline_id))?.name ?? timeline_id;
      print(`${formatLsn(lsn)}  on ${owner}, before ${name} began`);
    }
  },
};

/**
 * Parses a point in time, in microseconds since 2000.
 *
 * @throws {ZenithError} `invalid_argument` when it is not one
 */
function parseTime(text: string): number {
  const moment = parseMoment(text);
  if (moment.kind === "time") return moment.timestamp;
  throw new ZenithError("invalid_argument", `"${text}" is not a point in time`, {
    hint: "for example -5m, yesterday 14:00, 2026-11-22T09:30",
  });
}
