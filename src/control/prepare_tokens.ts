/** Gives an environment its keys and tokens before its servers start. */
import { hasKeys } from "../auth/key_files.ts";
import { allComputePlaces, isUp, listDeletions } from "./compute_places.ts";
import { type Environment, hasLocalPageServer } from "./environment.ts";
import { isPageServerRunning } from "./page_server_process.ts";
import { listSafekeepers } from "./safekeepers.ts";
import { ensureServerTokens } from "./server_tokens.ts";

/**
 * Gives the servers keys and tokens when an earlier version has made the environment. Its processes
 * have none: while one of them runs, the servers can't ask for any.
 */
export async function prepareTokens(environment: Environment): Promise<void> {
  const { paths, config } = environment;
  if (config.insecure === true || !hasLocalPageServer(environment)) return;
  if (!hasKeys(paths.auth) && isAnythingUp(environment)) return;
  await ensureServerTokens(environment);
}

function isAnythingUp(environment: Environment): boolean {
  return isPageServerRunning(environment) ||
    listSafekeepers(environment).some(({ running }) => running) ||
    [...allComputePlaces(environment), ...listDeletions(environment)].some(isUp);
}
