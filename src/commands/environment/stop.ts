/** `zenith stop`: stops every process of an environment. */
import { allComputePlaces, isUp, listDeletions, stopCompute } from "../../control/compute_places.ts";
import { finishDeletion } from "../../control/deleted_computes.ts";
import { type Environment, hasLocalPageServer, loadEnvironment } from "../../control/environment.ts";
import { noteWanted } from "../../control/last_start.ts";
import { stopPageServer } from "../../control/page_server_process.ts";
import { listSafekeepers, type SafekeeperInfo, stopSafekeeper } from "../../control/safekeepers.ts";
import { removeMoment } from "../../control/moments.ts";
import { parseStopMode, type StopMode } from "../../control/stop_process.ts";
import { endSpares } from "../../process/hand_to_spare.ts";
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

/**
 * Stops every process. If one fails to stop, the others are still stopped, and the first error is
 * thrown at the end.
 */
async function stop(environment: Environment, mode: StopMode): Promise<void> {
  const errors: unknown[] = [];
  const attempt = async (step: () => Promise<void>) => {
    try {
      await step();
    } catch (error) {
      errors.push(error);
    }
  };
  for (const compute of allComputePlaces(environment)) {
    if (compute.moment === null && !isUp(compute)) continue;
    await attempt(async () => {
      if (compute.moment === null) noteWanted(compute.paths);
      using progress = new Progress(`stopping the Postgres of branch ${compute.name}`);
      await stopCompute(
        compute,
        mode,
        (words) => progress.update(`Postgres of branch ${compute.name} ${words}`),
      );
      if (compute.moment !== null) await removeMoment(environment, compute);
      print(`Postgres of branch ${compute.name} stopped`);
    });
  }
  for (const compute of listDeletions(environment)) {
    await attempt(async () => void await finishDeletion(environment, compute));
  }
  await attempt(() => endSpares(environment.paths.spares));
  for (const safekeeper of listSafekeepers(environment)) {
    await attempt(() => stopOneSafekeeper(safekeeper, mode));
  }
  if (hasLocalPageServer(environment)) await attempt(() => stopOnlyPageServer(environment, mode));
  if (errors.length > 0) throw errors[0];
}

export async function stopOneSafekeeper(safekeeper: SafekeeperInfo, mode: StopMode): Promise<void> {
  using _progress = new Progress(`stopping safekeeper ${safekeeper.id}`);
  const wasRunning = await stopSafekeeper(safekeeper, mode);
  print(`safekeeper ${safekeeper.id} ${wasRunning ? "stopped" : "is not running"}`);
}

export async function stopOnlyPageServer(environment: Environment, mode: StopMode): Promise<void> {
  using _progress = new Progress("stopping the page server");
  const wasRunning = await stopPageServer(environment, mode);
  print(wasRunning ? "page server stopped" : "page server is not running");
}
