/** Starts servers and tells the user. */
import { formatHostPort } from "../../common/host_port.ts";
import { type Environment, hasLocalPageServer, pageServerAddress } from "../../control/environment.ts";
import { assertDataPresent, ensurePageServer } from "../../control/page_server_process.ts";
import { ensureSafekeeper, type SafekeeperInfo } from "../../control/safekeepers.ts";
import { asksForTokens } from "../../control/server_tokens.ts";
import { print, Progress } from "../cli/output.ts";

export async function startOnlyPageServer(environment: Environment): Promise<void> {
  if (hasLocalPageServer(environment)) assertDataPresent(environment);
  using progress = new Progress("starting the page server");
  const ready = await ensurePageServer(environment, { onProgress: (text) => progress.update(text) });
  if (ready === undefined) return;
  print(`page server started on ${formatHostPort(pageServerAddress(environment))}, process ${ready.pid}`);
  warnIfOpen(environment);
}

/** Says at each start that nobody is asked for a token. */
function warnIfOpen(environment: Environment): void {
  if (asksForTokens(environment)) return;
  const why = environment.config.insecure === true
    ? `insecure = true in ${environment.paths.config}`
    : 'it has no keys: "zenith stop", then "zenith start" makes them';
  process.stderr.write(`insecure: everybody on this machine may do everything (${why})\n`);
}

export async function startSafekeepers(
  environment: Environment,
  safekeepers: readonly SafekeeperInfo[],
): Promise<void> {
  for (const safekeeper of safekeepers) {
    using _progress = new Progress(`starting safekeeper ${safekeeper.id}`);
    const ready = await ensureSafekeeper(environment, safekeeper);
    if (ready === undefined) continue;
    print(
      `safekeeper ${safekeeper.id} started on ${formatHostPort(safekeeper.address)}, process ${ready.pid}`,
    );
  }
}
