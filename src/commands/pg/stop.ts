/** `zenith pg stop`: stops the Postgres of a branch. */
import { destroyCompute, stopCompute } from "../../control/compute_places.ts";
import { chooseTenant, loadEnvironment } from "../../control/environment.ts";
import { forgetStart } from "../../control/last_start.ts";
import { findNamedPlace, removeMoment } from "../../control/moments.ts";
import { parseStopMode } from "../../control/stop_process.ts";
import { type Command, optionText, requiredArg, TENANT_OPTION } from "../cli/command.ts";
import { print, Progress } from "../cli/output.ts";
import { STOP_MODE_OPTION } from "../environment/stop.ts";

export const pgStopCommand: Command = {
  usage: "pg stop <branch>",
  description: "Stop the Postgres of a branch",
  options: [
    TENANT_OPTION,
    STOP_MODE_OPTION,
    { flags: "--destroy", description: "Remove its directory and configuration too; the branch stays" },
  ],
  completions: ["compute"],
  examples: [
    ["pg stop main", "The data stay with the branch"],
    ["pg stop main@0/223C288", "Who looks at a moment leaves nothing behind"],
    ["pg stop dev --destroy", "Its configuration goes too"],
  ],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const compute = await findNamedPlace(environment, tenant, requiredArg(args, 0));
    using progress = new Progress("stopping Postgres");
    const mode = parseStopMode(optionText(options, "mode") ?? "fast");
    const wasRunning = await stopCompute(compute, mode, (words) => progress.update(words));
    forgetStart(compute.paths);
    print(`Postgres of branch ${compute.name} ${wasRunning ? "stopped" : "is not running"}`);
    if (compute.moment !== null) await removeMoment(environment, compute);
    else if (options["destroy"] === true) {
      await destroyCompute(environment, compute);
      print(`Postgres of branch ${compute.name} destroyed; the branch and its data stay`);
    }
  },
};
