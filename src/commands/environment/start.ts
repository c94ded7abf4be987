/** `zenith start`: starts the servers of an environment, and every Postgres that ran before. */
import { errorMessage } from "../../common/errors.ts";
import { formatHostPort } from "../../common/host_port.ts";
import {
  type Environment,
  hasLocalPageServer,
  loadEnvironment,
  pageServerAddress,
} from "../../control/environment.ts";
import { killed } from "../../control/killed.ts";
import { rememberEnvironment } from "../../control/known_environments.ts";
import { isPageServerRunning } from "../../control/page_server_process.ts";
import { listSafekeepers } from "../../control/safekeepers.ts";
import type { ComputePlace } from "../../control/compute_places.ts";
import { finishDeletions } from "../../control/deleted_computes.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { prepareTokens } from "../../control/prepare_tokens.ts";
import { bringBack, computesToBringBack } from "../../control/run_again.ts";
import type { Command } from "../cli/command.ts";
import { print, Progress } from "../cli/output.ts";
import { startOnlyPageServer, startSafekeepers } from "./servers.ts";
import { ATTEMPTS, watchOver } from "./watch.ts";

export const startCommand: Command = {
  usage: "start",
  description: "Start the page server, the safekeepers and every Postgres that ran before",
  options: [
    { flags: "--watch", description: "Stay, and start again what is killed: for a service manager" },
  ],
  examples: [
    ["start", "Starts what is not running; `pg start` starts a Postgres for the first time"],
    ["start --watch", "As systemd runs it"],
  ],
  async run(_args, options) {
    const environment = loadEnvironment();
    if (options["watch"] !== true) {
      await startEverything(environment);
      return 0;
    }
    await startDespiteKills(environment);
    return await watchOver(environment);
  },
};

/** Starts everything, and again when a process that something needs was killed meanwhile. */
async function startDespiteKills(environment: Environment): Promise<void> {
  for (let attempt = 1;; attempt++) {
    try {
      await startEverything(environment);
      return;
    } catch (error) {
      const [first] = killed(environment, () => false);
      if (first === undefined || attempt >= ATTEMPTS) throw error;
      print(`${first.name} was killed during the start: ${errorMessage(error)}`);
    }
  }
}

/** Starts everything that does not run, or says that everything does. */
export async function startEverything(environment: Environment): Promise<void> {
  // It may have been moved here, or be older than the list.
  rememberEnvironment(environment);
  await prepareTokens(environment);
  const stopped = listSafekeepers(environment).filter(({ running }) => !running);
  const computes = computesToBringBack(environment);
  const isServed = !hasLocalPageServer(environment) || isPageServerRunning(environment);
  // Another command may just be starting it.
  if (hasLocalPageServer(environment)) await startOnlyPageServer(environment);
  if (isServed && stopped.length === 0 && computes.length === 0) {
    await finishDeleted(environment);
    print(
      `everything runs already; the page server answers on ${formatHostPort(pageServerAddress(environment))}`,
    );
    return;
  }
  await startSafekeepers(environment, stopped);
  await finishDeleted(environment);
  await bringBackAll(environment, computes);
}

/** Removes what an interrupted `branch delete` has left. */
async function finishDeleted(environment: Environment): Promise<void> {
  await using client = new PageServerClient(pageServerAddress(environment));
  for (const { name } of await finishDeletions(environment, client)) {
    print(`what was left of deleted branch ${name} removed`);
  }
}

/**
 * Starts every compute. If one fails, the others are still started, and the first error is thrown
 * at the end.
 */
async function bringBackAll(environment: Environment, computes: readonly ComputePlace[]): Promise<void> {
  const errors: unknown[] = [];
  for (const found of computes) {
    using progress = new Progress(`starting the Postgres of branch ${found.name}`);
    try {
      const { address } = await bringBack(environment, found, (text) => progress.update(text));
      print(`Postgres of branch ${found.name} started on ${formatHostPort(address)}`);
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 0) throw errors[0];
}
