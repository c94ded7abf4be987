/** `zenith start`: starts the servers of an environment. */
import { formatHostPort } from "../../common/host_port.ts";
import {
  type Environment,
  hasLocalPageServer,
  loadEnvironment,
  pageServerAddress,
} from "../../control/environment.ts";
import {
  assertDataPresent,
  isPageServerRunning,
  startPageServer,
} from "../../control/page_server_process.ts";
import { listSafekeepers, type SafekeeperInfo, startSafekeeper } from "../../control/safekeepers.ts";
import type { Command } from "../cli/command.ts";
import { print, Progress } from "../cli/output.ts";

export const startCommand: Command = {
  usage: "start",
  description: "Start the page server and the safekeepers that do not run",
  examples: [
    ["start", "Starts what is not running; `pg start` starts a Postgres"],
  ],
  run: () => start(loadEnvironment()),
};

async function start(environment: Environment): Promise<void> {
  const stopped = listSafekeepers(environment).filter(({ running }) => !running);
  // After one safekeeper has died, this is how it is started again.
  const safekeepersOnly = stopped.length > 0 &&
    (!hasLocalPageServer(environment) || isPageServerRunning(environment));
  if (!safekeepersOnly) await startOnlyPageServer(environment);
  await startSafekeepers(environment, stopped);
}

export async function startOnlyPageServer(environment: Environment): Promise<void> {
  if (hasLocalPageServer(environment)) assertDataPresent(environment);
  using progress = new Progress("starting the page server");
  const { pid } = await startPageServer(environment, { onProgress: (text) => progress.update(text) });
  print(`page server started on ${formatHostPort(pageServerAddress(environment))}, process ${pid}`);
}

export async function startSafekeepers(
  environment: Environment,
  safekeepers: readonly SafekeeperInfo[],
): Promise<void> {
  for (const safekeeper of safekeepers) {
    using _progress = new Progress(`starting safekeeper ${safekeeper.id}`);
    const { pid } = await startSafekeeper(environment, safekeeper);
    print(`safekeeper ${safekeeper.id} started on ${formatHostPort(safekeeper.address)}, process ${pid}`);
  }
}
