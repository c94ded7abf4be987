/** `zenith restart`: restarts the servers of an environment. */
import { hasLocalPageServer, loadEnvironment } from "../../control/environment.ts";
import { assertDataPresent } from "../../control/page_server_process.ts";
import { listSafekeepers } from "../../control/safekeepers.ts";
import { parseStopMode } from "../../control/stop_process.ts";
import { type Command, optionText } from "../cli/command.ts";
import { startOnlyPageServer, startSafekeepers } from "./servers.ts";
import { STOP_MODE_OPTION, stopOneSafekeeper, stopOnlyPageServer } from "./stop.ts";

export const restartCommand: Command = {
  usage: "restart",
  description: "Restart the servers; every Postgres stays up and waits for them",
  options: [STOP_MODE_OPTION],
  examples: [
    ["restart", "After an upgrade of zenith: clients see no more than a pause"],
  ],
  async run(_args, options) {
    const environment = loadEnvironment();
    const mode = parseStopMode(optionText(options, "mode") ?? "fast");
    const safekeepers = listSafekeepers(environment);
    if (hasLocalPageServer(environment) || safekeepers.length === 0) {
      // Keep the page server running if it could not be started again.
      if (hasLocalPageServer(environment)) assertDataPresent(environment);
      await stopOnlyPageServer(environment, mode);
      await startOnlyPageServer(environment);
    }
    // One at a time, so that two of three always run.
    for (const safekeeper of safekeepers) {
      await stopOneSafekeeper(safekeeper, mode);
      await startSafekeepers(environment, [safekeeper]);
    }
  },
};
