/** `zenith safekeeper release`: releases a branch from its safekeepers. */
import { ZenithError } from "../../common/errors.ts";
import { parseBranchName } from "../../common/id.ts";
import { untilBranchEndArrived } from "../../control/branch_end.ts";
import { listComputes } from "../../control/computes.ts";
import { chooseTenant, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { deleteFromSafekeepers } from "../../control/safekeepers.ts";
import { type Command, optionText, requiredArg, TENANT_OPTION } from "../cli/command.ts";
import { print } from "../cli/output.ts";
import { warnAboutSafekeeper } from "./prune.ts";

/**
 * The first step of moving a branch to other safekeepers. The second is to name them in the
 * configuration of its Postgres.
 */
export const safekeeperReleaseCommand: Command = {
  usage: "safekeeper release <branch>",
  description: "Take a branch from its safekeepers, once the page server has all its WAL",
  options: [TENANT_OPTION],
  completions: ["branch"],
  examples: [["safekeeper release main", "Before other safekeepers take the branch over"]],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const name = parseBranchName(requiredArg(args, 0));
    await using client = new PageServerClient(pageServerAddress(environment));
    const branch = await client.branch(tenant, name);
    const timeline = branch.timeline_id;
    const running = listComputes(environment, tenant).find(({ identity, status }) =>
      identity.timeline === timeline && status === "running"
    );
    if (running !== undefined) {
      throw new ZenithError("conflict", `a Postgres runs on ${running.name}`, {
        hint: `stop it with "zenith pg stop ${running.name}"`,
      });
    }
    await untilBranchEndArrived(client, tenant, branch);
    await client.releaseTimeline(tenant, timeline);
    for (const problem of await deleteFromSafekeepers(environment, [{ tenant, timeline }])) {
      warnAboutSafekeeper(problem);
    }
    print(`branch ${name} released: name its safekeepers in zenith.wal_acceptors before it is started again`);
  },
};
