/** Starts servers and tells the user. */
import { formatHostPort } from "../../common/host_port.ts";
import { type Environment, hasLocalPageServer, pageServerAddress } from "../../control/environment.ts";
import { assertDataPresent, startPageServer } from "../../control/page_server_process.ts";
import { type SafekeeperInfo, startSafekeeper } from "../../control/safekeepers.ts";
import { print, Progress } from "../cli/output.ts";

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
