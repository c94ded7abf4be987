/** `zenith pg config`: shows and changes the settings of a branch. */
import { ZenithError } from "../../common/errors.ts";
import { parseBranchName } from "../../common/id.ts";
import { changeSettings, currentSettings } from "../../control/branch_settings.ts";
import { type ComputeInfo, findCompute } from "../../control/computes.ts";
import { chooseTenant, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import {
  checkSettingName,
  parseSettingChange,
  type SettingChange,
} from "../../control/inherited_settings.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { type Command, JSON_OPTION, optionText, requiredArg, TENANT_OPTION } from "../cli/command.ts";
import { formatTable, print, printJson } from "../cli/output.ts";

export const pgConfigCommand: Command = {
  usage: "pg config <branch> [setting]",
  description: "Show or change PostgreSQL's settings of a branch",
  options: [
    TENANT_OPTION,
    { flags: "--unset", description: "Have PostgreSQL's default of that setting again" },
    JSON_OPTION,
  ],
  completions: ["branch"],
  examples: [
    ["pg config main", "What is set on it"],
    ["pg config main work_mem=64MB", "As ALTER SYSTEM; branches made from now on have it too"],
    ["pg config main work_mem --unset", "Not any more"],
  ],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const name = parseBranchName(requiredArg(args, 0));
    await using client = new PageServerClient(pageServerAddress(environment));
    const branch = await client.branch(tenant, name);
    const compute = orUndefined(() => findCompute(environment, tenant, name));
    const change = wanted(args[1], options["unset"] === true);
    if (change !== undefined) {
      const late = await changeSettings(client, branch, tenant, compute, [change]);
      const [setting, value] = change;
      print(value === null ? `${setting} has its default` : `${setting} = ${value}`);
      if (late.length > 0) print(`it holds from the next start of the Postgres of branch ${name} on`);
      return;
    }
    const settings = [...await currentSettings(client, branch, tenant, compute)]
      .filter(([setting]) => args[1] === undefined || setting === args[1].toLowerCase())
      .sort(([a], [b]) => a < b ? -1 : 1);
    if (options["json"] === true) printJson(Object.fromEntries(settings));
    else for (const line of formatTable(settings.map(([setting, value]) => [setting, value]))) print(line);
  },
};

/** Returns the change that was asked for; undefined when the command only shows settings. */
function wanted(argument: string | undefined, unset: boolean): SettingChange | undefined {
  if (unset) {
    if (argument !== undefined) return [checkSettingName(argument), null];
    throw new ZenithError("invalid_argument", "--unset needs the name of a setting");
  }
  return argument?.includes("=") === true ? parseSettingChange(argument) : undefined;
}

/** Returns undefined when the branch has no Postgres here. It has settings even so. */
function orUndefined(find: () => ComputeInfo): ComputeInfo | undefined {
  try {
    return find();
  } catch (error) {
    if (error instanceof ZenithError && error.kind === "not_found") return undefined;
    throw error;
  }
}
