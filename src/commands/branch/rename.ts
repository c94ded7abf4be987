/** `zenith branch rename`: renames a branch. */
import { ZenithError } from "../../common/errors.ts";
import { parseBranchName } from "../../common/id.ts";
import { listComputes } from "../../control/computes.ts";
import {
  chooseTenant,
  defaultBranch,
  loadEnvironment,
  pageServerAddress,
  setDefaultBranch,
} from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { type Command, JSON_OPTION, optionText, requiredArg, TENANT_OPTION } from "../cli/command.ts";
import { print, printJson } from "../cli/output.ts";
import { branchJson } from "./list.ts";

export const branchRenameCommand: Command = {
  usage: "branch rename <name> <new-name>",
  description: "Give a branch another name",
  options: [TENANT_OPTION, JSON_OPTION],
  completions: ["branch"],
  examples: [
    ["branch rename dev staging", "Its Postgres, if any, has to be removed first"],
  ],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const from = parseBranchName(requiredArg(args, 0));
    const to = parseBranchName(requiredArg(args, 1));
    // A compute's directory has the branch's name, and its configuration names that directory.
    const found = listComputes(environment, tenant).find((compute) => compute.branch === from);
    if (found !== undefined) {
      throw new ZenithError("conflict", `branch ${found.name} has a Postgres, which goes by its name`, {
        hint: `remove it with "zenith pg stop ${found.name} --destroy"; the data stay with the branch`,
      });
    }
    await using client = new PageServerClient(pageServerAddress(environment));
    await client.branchRename(tenant, from, to);
    if (from === defaultBranch(environment, tenant) && tenant === environment.config.default_tenant_id) {
      setDefaultBranch(environment, to);
    }
    if (options["json"] === true) printJson(branchJson(await client.branch(tenant, to)));
    else print(`branch ${from} is now ${to}`);
  },
};
