/** `zenith branch default`: shows or sets the branch for commands that name none. */
import { parseBranchName } from "../../common/id.ts";
import {
  defaultBranch,
  loadEnvironment,
  pageServerAddress,
  setDefaultBranch,
} from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { type Command, JSON_OPTION } from "../cli/command.ts";
import { print, printJson } from "../cli/output.ts";

export const branchDefaultCommand: Command = {
  usage: "branch default [name]",
  description: "Show or set the branch that psql, sql, uri and up take when none is named",
  options: [JSON_OPTION],
  completions: ["branch"],
  examples: [
    ["branch default", "main, unless somebody has set another"],
    ["branch default dev", "From now on dev, in this environment"],
  ],
  async run([name], options) {
    const environment = loadEnvironment();
    const tenant = environment.config.default_tenant_id;
    let branch = defaultBranch(environment, tenant);
    if (name !== undefined) {
      branch = parseBranchName(name);
      await using client = new PageServerClient(pageServerAddress(environment));
      await client.branch(tenant, branch);
      setDefaultBranch(environment, branch);
    }
    if (options["json"] === true) printJson({ branch });
    else print(name === undefined ? branch : `branch ${branch} is the default now`);
  },
};
