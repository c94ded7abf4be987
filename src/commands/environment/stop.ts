/** `zenith stop`: stops every process of an environment. */
import { type Environment, loadEnvironment } from "../../control/environment.ts";
import { stopPageServer } from "../../control/page_server_process.ts";
import { type SafekeeperInfo, stopSafekeeper } from "../../control/safekeepers.ts";
import { stopServe } from "../../control/serve_process.ts";
import { type ReportStop, stopEverything } from "../../control/stop_everything.ts";
import { parseStopMode, type StopMode } from "../../control/stop_process.ts";
import { type Command, type CommandOption, optionText } from "../cli/command.ts";
import { print, Progress } from "../cli/output.ts";

export const STOP_MODE_OPTION: CommandOption = {
  flags: "-m, --mode <mode>",
  description:
    "fast: orderly; immediate: at once, without what synchronous_commit = off left to be made durable",
  default: "fast",
  values: ["fast", "immediate"],
};

export const stopCommand: Command = {
  usage: "stop",
  description: "Stop every Postgres, the safekeepers and the page server; `start` undoes it",
  options: [STOP_MODE_OPTION],
  examples: [
    ["stop", "Everything, in order"],
    ["stop -m immediate", "As if the machine had lost its power; nothing committed is lost"],
  ],
  run: (_args, options) => stop(loadEnvironment(), parseStopMode(optionText(options, "mode") ?? "fast")),
};

/** Stops every process, and says so. */
async function stop(environment: Environment, mode: StopMode): Promise<void> {
  {
    using _progress = new Progress("stopping zenith serve");
    if (await stopServe(environment, mode)) print("zenith serve stopped");
  }
  await stopEverything(environment, mode, report);
}

const report: ReportStop = async (what, work) => {
  using progress = new Progress(`stopping ${what}`);
  const name = what.replace(/^the /, "");
  const wasRunning = await work((words) => progress.update(`${name} ${words}`));
  print(`${name} ${wasRunning ? "stopped" : "is not running"}`);
};

export async function stopOneSafekeeper(safekeeper: SafekeeperInfo, mode: StopMode): Promise<void> {
  await report(`safekeeper ${safekeeper.id}`, () => stopSafekeeper(safekeeper, mode));
}

export async function stopOnlyPageServer(environment: Environment, mode: StopMode): Promise<void> {
  await report("the page server", () => stopPageServer(environment, mode));
}
