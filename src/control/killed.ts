/** Finds the processes of an environment that were killed, and starts them again. */
import { checkPidFile } from "../process/pid_file.ts";
import { type Environment, hasLocalPageServer } from "./environment.ts";
import { assertDataPresent, ensurePageServer } from "./page_server_process.ts";
import { bringBack, computesToBringBack } from "./run_again.ts";
import { ensureSafekeeper, listSafekeepers } from "./safekeepers.ts";

export interface Killed {
  readonly name: string;
  start(): Promise<void>;
}

/**
 * Yields the processes that ended without being stopped, which leaves a pid file behind. A process
 * comes after those that it needs.
 *
 * @param failed whether a restart of that process has failed: a failed start leaves no pid file
 */
export function* killed(environment: Environment, failed: (name: string) => boolean): Generator<Killed> {
  const isDown = (name: string, pidFile: string): boolean => {
    const { state } = checkPidFile(pidFile);
    return state === "stale" || state === "absent" && failed(name);
  };
  const pageServer = "page server";
  if (hasLocalPageServer(environment) && isDown(pageServer, environment.paths.pageserver.pidFile)) {
    yield {
      name: pageServer,
      start: async () => {
        assertDataPresent(environment);
        await ensurePageServer(environment);
      },
    };
  }
  for (const safekeeper of listSafekeepers(environment)) {
    const name = `safekeeper ${safekeeper.id}`;
    if (!isDown(name, safekeeper.paths.pidFile)) continue;
    yield { name, start: async () => void await ensureSafekeeper(environment, safekeeper) };
  }
  for (const found of computesToBringBack(environment)) {
    const name = `Postgres of branch ${found.branch} of tenant ${found.tenant}`;
    if (!isDown(name, found.paths.pidFile)) continue;
    yield { name, start: async () => void await bringBack(environment, found, () => {}) };
  }
}
