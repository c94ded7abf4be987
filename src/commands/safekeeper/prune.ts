/** `zenith safekeeper prune`: removes the WAL of deleted branches from safekeepers. */
import { ZenithError } from "../../common/errors.ts";
import { parseTimelineId, type TimelineId } from "../../common/id.ts";
import { type Environment, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import {
  deleteFromSafekeepers,
  listSafekeepers,
  safekeeperStatus,
  type TimelineName,
} from "../../control/safekeepers.ts";
import { type Command, EXIT_UNAVAILABLE } from "../cli/command.ts";
import { confirm, YES_OPTION } from "../cli/ask.ts";
import { formatBytes, print } from "../cli/output.ts";

/**
 * Warns about a safekeeper that still has WAL of a deleted branch. The deletion at the page server
 * is what counts; the rest only costs space.
 */
export function warnAboutSafekeeper(problem: string): void {
  process.stderr.write(`zenith: ${problem}; "zenith safekeeper prune" removes it\n`);
}

/** Removes the WAL of branches that expired, or were deleted while a safekeeper was down. */
export const safekeeperPruneCommand: Command = {
  usage: "safekeeper prune [timeline]",
  description: "Remove the WAL of deleted branches from the environment's safekeepers",
  options: [YES_OPTION],
  examples: [
    ["safekeeper prune", "After a safekeeper was away while branches were deleted"],
    [
      "safekeeper prune 4312c735a5500f4d9a76a2ca511795d5",
      "A timeline that the page server neither has nor knows to be deleted",
    ],
  ],
  async run([wanted], options) {
    const environment = loadEnvironment();
    await using client = new PageServerClient(pageServerAddress(environment));
    const { found, unreachable } = await findTimelines(environment);
    // Query the page server only after the safekeepers. Every timeline that a safekeeper had by
    // then is on the page server by now, unless it was deleted.
    const present = await presentTimelines(client);
    const missing = [...found.values()].filter(({ timeline }) => !present.has(timeline));
    const going = wanted === undefined
      ? await knownDeleted(client, missing)
      : [only(missing, present, parseTimelineId(wanted))];
    if (going.length === 0) return unreachable ? EXIT_UNAVAILABLE : 0;
    for (const { tenant, timeline, walBytes } of going) {
      print(`timeline ${timeline} of tenant ${tenant}: ${formatBytes(walBytes)} of WAL`);
    }
    await confirm("Remove all of this from the safekeepers?", options);
    const problems = await deleteFromSafekeepers(environment, going);
    for (const problem of problems) process.stderr.write(`zenith: ${problem}\n`);
    for (const { tenant, timeline } of going) print(`timeline ${timeline} of tenant ${tenant} removed`);
    return unreachable || problems.length > 0 ? EXIT_UNAVAILABLE : 0;
  },
};

interface FoundTimeline extends TimelineName {
  /** Bytes of WAL at the safekeeper that has the most. */
  readonly walBytes: number;
}

async function findTimelines(
  environment: Environment,
): Promise<{ found: Map<string, FoundTimeline>; unreachable: boolean }> {
  const found = new Map<string, FoundTimeline>();
  let unreachable = false;
  for (const { id, address } of listSafekeepers(environment)) {
    try {
      for (const { tenant_id: tenant, timeline_id: timeline, wal_bytes } of await safekeeperStatus(address)) {
        const walBytes = Math.max(wal_bytes, found.get(timeline)?.walBytes ?? 0);
        found.set(timeline, { tenant, timeline, walBytes });
      }
    } catch (error) {
      if (!(error instanceof ZenithError)) throw error;
      unreachable = true;
      process.stderr.write(`zenith: safekeeper ${id}: ${error.message}\n`);
    }
  }
  return { found, unreachable };
}

/**
 * Returns the missing timelines that the page server knows to be deleted. Of the others, the
 * safekeepers may have the only copy.
 */
async function knownDeleted(
  client: PageServerClient,
  missing: readonly FoundTimeline[],
): Promise<FoundTimeline[]> {
  const deleted = new Set((await client.deletedList()).map(({ timeline_id }) => timeline_id));
  for (const { tenant, timeline } of missing) {
    if (deleted.has(timeline)) continue;
    process.stderr.write(
      `zenith: timeline ${timeline} of tenant ${tenant} stays: the page server does not have it, ` +
        "and does not know that it was deleted\n" +
        "hint: if its data were restored from an older copy, this WAL may be all there is; " +
        `"zenith safekeeper prune ${timeline}" removes it all the same\n`,
    );
  }
  return missing.filter(({ timeline }) => deleted.has(timeline));
}

function only(
  missing: readonly FoundTimeline[],
  present: ReadonlySet<string>,
  wanted: TimelineId,
): FoundTimeline {
  const found = missing.find(({ timeline }) => timeline === wanted);
  if (found !== undefined) return found;
  if (present.has(wanted)) {
    throw new ZenithError("conflict", `the page server has timeline ${wanted}`, {
      hint: '"zenith branch delete" deletes it everywhere',
    });
  }
  throw new ZenithError("not_found", `no safekeeper has timeline ${wanted}`);
}

async function presentTimelines(client: PageServerClient): Promise<Set<string>> {
  const present = new Set<string>();
  for (const tenant of await client.tenantList()) {
    const all = [...await client.branchList(tenant), ...await client.branchDamaged(tenant)];
    for (const { timeline_id } of all) if (timeline_id !== null) present.add(timeline_id);
  }
  return present;
}
