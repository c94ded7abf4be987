/**
 * Keeps an environment running for a service manager. Restarts processes that were killed, and
 * fails when one stays down.
 */
import { errorMessage } from "../../common/errors.ts";
import { sleep } from "../../common/sleep.ts";
import type { Environment } from "../../control/environment.ts";
import { killed } from "../../control/killed.ts";
import { print } from "../cli/output.ts";

/** How often to check the processes. */
const LOOK_MS = 1_000;
/** Gives up when a killed process has failed to start this many times in a row. */
export const ATTEMPTS = 5;

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
