/** `zenith push`: copies a branch to another environment's page server. */
import { generateTenantId, parseBranchName, parseTenantId } from "../../common/id.ts";
import { formatLsn } from "../../common/lsn.ts";
import { chooseTenant, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { findSettings } from "../../control/inherited_settings.ts";
import { findPast, parseComputeName } from "../../control/moments.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { pushBranch } from "../../control/push_branch.ts";
import { remoteAddress } from "../../control/remotes.ts";
import { type Command, JSON_OPTION, optionText, requiredArg, TENANT_OPTION } from "../cli/command.ts";
import { formatBytes, print, printJson, Progress } from "../cli/output.ts";

export const pushCommand: Command = {
  usage: "push <branch> <remote>",
  description: "Copy a branch, or branch@moment, to a page server that `remote add` has named",
  options: [
    { flags: "--as <branch>", description: "Its name there; the same when left out" },
    { flags: "--to-tenant <id>", description: "The new tenant's id there; chosen when left out" },
    TENANT_OPTION,
    JSON_OPTION,
  ],
  completions: ["branch"],
  examples: [
    ["push main central", "A new tenant there, with one branch; prints its id"],
    ["push main@-1h central --as before", "As it was an hour ago"],
  ],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const { branch: name, moment = { kind: "end" } } = parseComputeName(requiredArg(args, 0));
    const remote = requiredArg(args, 1);
    const to = remoteAddress(environment, remote);
    const id = optionText(options, "toTenant");
    const newTenant = id === undefined ? generateTenantId() : parseTenantId(id);
    const newName = parseBranchName(optionText(options, "as") ?? name);
    await using client = new PageServerClient(pageServerAddress(environment));
    const { branch, lsn } = await findPast(client, tenant, name, moment);
    const { files } = await findSettings(client, tenant, await client.branch(tenant, parseBranchName(name)));
    const point = { tenant, timeline: branch.timeline_id, lsn };
    using shown = new Progress("pushing");
    const pushed = await pushBranch(client.address, point, files, to, newTenant, newName, (bytes) => {
      // In a log, each step would be a line.
      if (process.stderr.isTTY) shown.update(`pushing, ${formatBytes(bytes)} sent`);
    });
    if (options["json"] === true) {
      return printJson({
        tenant_id: pushed.tenant_id,
        branch: newName,
        timeline_id: pushed.timeline_id,
        lsn: formatLsn(lsn),
        latest_valid_lsn: formatLsn(pushed.latest_valid_lsn),
        imported_bytes: pushed.imported_bytes,
      });
    }
    print(
      `branch ${name} as of ${formatLsn(lsn)} is branch ${newName} of tenant ${newTenant} at ${remote}, ${
        formatBytes(pushed.imported_bytes)
      }`,
    );
  },
};
