/**
 * Keeps an environment running for a service manager. Restarts processes that were killed, and
 * fails when one stays down.
 */
import { errorMessage } from "../../common/errors.ts";
import { sleep } from "../../common/sleep.ts";
import { type Environment, hasLocalPageServer } from "../../control/environment.ts";
import { listSafekeepers } from "../../control/safekeepers.ts";
import { bringBack, computesToBringBack } from "../../control/run_again.ts";
import { checkPidFile } from "../../process/pid_file.ts";
import { print } from "../cli/output.ts";
import { startOnlyPageServer, startSafekeepers } from "./servers.ts";

/** How often to check the processes. */
const LOOK_MS = 1_000;
/** Gives up when a killed process has failed to start this many times in a row. */
const ATTEMPTS = 5;

/**
 * Runs until this process is told to end. Leaves everything running.
 *
 * @returns the exit code
 * @throws the error of a process that can't be started again
 */
export async function watchOver(environment: Environment): Promise<number> {
  const ending = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => ending.abort());
  const failures = new Map<string, number>();
  while (!ending.signal.aborted) {
    for (const { name, start } of killed(environment, (name) => failures.has(name))) {
      try {
        print(`${name} was killed: starting it again`);
        await start();
        failures.delete(name);
      } catch (error) {
        const count = (failures.get(name) ?? 0) + 1;
        failures.set(name, count);
        if (count >= ATTEMPTS) throw error;
        print(`${name}: ${errorMessage(error)}`);
        // The cause may be another process that is down. Check all of them again first.
        break;
      }
    }
    await sleep(LOOK_MS, ending.signal);
  }
  return 0;
}

interface Killed {
  readonly name: string;
  start(): Promise<void>;
}

/**
 * Yields the processes that ended without being stopped, which leaves a pid file behind. A process
 * comes after those that it needs.
 *
 * @param failed whether a restart of that process has failed: a failed start leaves no pid file
 */
function* killed(environment: Environment, failed: (name: string) => boolean): Generator<Killed> {
  const isDown = (name: string, pidFile: string): boolean => {
    const { state } = checkPidFile(pidFile);
    return state === "stale" || state === "absent" && failed(name);
  };
  const pageServer = "page server";
  if (hasLocalPageServer(environment) && isDown(pageServer, environment.paths.pageserver.pidFile)) {
    yield { name: pageServer, start: () => startOnlyPageServer(environment) };
  }
  for (const safekeeper of listSafekeepers(environment)) {
    const name = `safekeeper ${safekeeper.id}`;
    if (!isDown(name, safekeeper.paths.pidFile)) continue;
    yield { name, start: () => startSafekeepers(environment, [safekeeper]) };
  }
  for (const found of computesToBringBack(environment)) {
    const name = `Postgres of branch ${found.branch} of tenant ${found.tenant}`;
    if (!isDown(name, found.paths.pidFile)) continue;
    yield { name, start: async () => void await bringBack(environment, found, () => {}) };
  }
}
