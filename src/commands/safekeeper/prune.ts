import { ZenithError } from "../../common/errors.ts";
import { loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import {
  deleteFromSafekeepers,
  listSafekeepers,
  safekeeperStatus,
  type TimelineName,
} from "../../control/safekeepers.ts";
import { type Command, EXIT_UNAVAILABLE } from "../cli/command.ts";
import { print } from "../cli/output.ts";

/** A deletion is done when the page server has done it; what stays behind costs space only. */
export function warnAboutSafekeeper(problem: string): void {
  process.stderr.write(`zenith: ${problem}; "zenith safekeeper prune" removes it\n`);
}

/** What branches leave behind that expired, or were deleted while a safekeeper was down. */
export const safekeeperPruneCommand: Command = {
  usage: "safekeeper prune",
  description: "Remove the WAL of branches that are deleted from the environment's safekeepers",
  examples: [["safekeeper prune", "After a safekeeper was away while branches were deleted"]],
  async run() {
    const environment = loadEnvironment();
    await using client = new PageServerClient(pageServerAddress(environment));
    const found = new Map<string, TimelineName>();
    let exitCode = 0;
    for (const { id, address } of listSafekeepers(environment)) {
      try {
        for (const { tenant_id: tenant, timeline_id: timeline } of await safekeeperStatus(address)) {
          found.set(timeline, { tenant, timeline });
        }
      } catch (error) {
        if (!(error instanceof ZenithError)) throw error;
        exitCode = EXIT_UNAVAILABLE;
        process.stderr.write(`zenith: safekeeper ${id}: ${error.message}\n`);
      }
    }
    // Asked only now: what the safekeepers have had before belongs to a branch that is made by now, if it is not gone.
    const present = await presentTimelines(client);
    const gone = [...found.values()].filter(({ timeline }) => !present.has(timeline));
    for (const problem of await deleteFromSafekeepers(environment, gone)) {
      exitCode = EXIT_UNAVAILABLE;
      process.stderr.write(`zenith: ${problem}\n`);
    }
    for (const { tenant, timeline } of gone) {
      print(`timeline ${timeline} of tenant ${tenant} removed`);
    }
    return exitCode;
  },
};

async function presentTimelines(client: PageServerClient): Promise<Set<string>> {
  const present = new Set<string>();
  for (const tenant of await client.tenantList()) {
    for (const { timeline_id } of await client.branchList(tenant)) present.add(timeline_id);
  }
  return present;
}
