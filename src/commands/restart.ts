import { loadEnvironment } from "../control/environment.ts";
import { parseStopMode } from "../control/stop_process.ts";
import { type Command, optionText } from "./command.ts";
import { start } from "./start.ts";
import { STOP_MODE_OPTION, stopOnlyPageServer } from "./stop.ts";

export const restartCommand: Command = {
  usage: "restart",
  description: "Restart the page server; every Postgres stays up and waits for it",
  options: [STOP_MODE_OPTION],
  async run(_args, options) {
    const environment = loadEnvironment();
    await stopOnlyPageServer(environment, parseStopMode(optionText(options, "mode") ?? "fast"));
    await start(environment);
  },
};
