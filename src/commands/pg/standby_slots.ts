/** `zenith standby`: lists and drops the slots by which safekeepers keep WAL for standbys. */
import { errorMessage } from "../../common/errors.ts";
import { parseBranchName, type TimelineId } from "../../common/id.ts";
import { formatLsn } from "../../common/lsn.ts";
import {
  chooseTenant,
  type Environment,
  loadEnvironment,
  pageServerAddress,
} from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { listSafekeepers, safekeeperStatus } from "../../control/safekeepers.ts";
import { combineStandbySlots, dropStandbySlot, type StandbySlotStatus } from "../../control/standby_slots.ts";
import {
  type Command,
  EXIT_UNAVAILABLE,
  JSON_OPTION,
  optionText,
  requiredArg,
  TENANT_OPTION,
} from "../cli/command.ts";
import { type Column, formatBytes, print, printList } from "../cli/output.ts";

export const standbyListCommand: Command = {
  usage: "standby list",
  description: "List the standbys for which the safekeepers keep WAL",
  options: [JSON_OPTION],
  examples: [["standby list", "How far each is behind, and how far it may be"]],
  async run(_args, options) {
    const environment = loadEnvironment();
    const safekeepers = listSafekeepers(environment);
    const answers = await Promise.allSettled(safekeepers.map(({ address }) => safekeeperStatus(address)));
    const failures = answers.map((answer) => answer.status === "rejected" ? answer.reason as unknown : null);
    if (failures.length > 0 && failures.every((failure) => failure !== null)) throw failures[0];
    const slots = combineStandbySlots(
      answers.flatMap((answer) => answer.status === "fulfilled" ? answer.value : []),
    );
    const names = await branchNames(environment, slots);
    const isComplete = failures.every((failure) => failure === null);
    const listed = slots.map((slot) => ({
      ...slot,
      branch: names.get(slot.timeline) ?? null,
      // A safekeeper that does not answer may have the WAL.
      isLost: slot.isLost && isComplete,
    }));
    printList(listed, COLUMNS, listedJson, options);
    for (const [i, failure] of failures.entries()) {
      if (failure === null) continue;
      process.stderr.write(
        `zenith: what safekeeper ${safekeepers[i]!.id} keeps is not shown: ${errorMessage(failure)}\n`,
      );
    }
    return isComplete ? 0 : EXIT_UNAVAILABLE;
  },
};

async function branchNames(
  environment: Environment,
  slots: readonly StandbySlotStatus[],
): Promise<Map<TimelineId, string>> {
  await using client = new PageServerClient(pageServerAddress(environment));
  const names = new Map<TimelineId, string>();
  for (const tenant of new Set(slots.map(({ tenant }) => tenant))) {
    for (const { name, timeline_id } of await client.branchList(tenant)) names.set(timeline_id, name);
  }
  return names;
}

interface ListedSlot extends StandbySlotStatus {
  /** Null when its timeline has no name. */
  readonly branch: string | null;
}

const COLUMNS: readonly Column<ListedSlot>[] = [
  { title: "BRANCH", cell: ({ branch, timeline }) => branch ?? timeline },
  { title: "SLOT", cell: ({ name }) => name },
  { title: "LSN", cell: ({ restartLsn }) => formatLsn(restartLsn) },
  { title: "BEHIND", cell: ({ behindBytes }) => formatBytes(behindBytes) },
  { title: "LIMIT", cell: ({ maxBytes }) => formatBytes(maxBytes) },
  { title: "STATUS", cell: ({ isLost, active }) => isLost ? "lost" : active ? "streaming" : "away" },
];

function listedJson(slot: ListedSlot): Record<string, unknown> {
  return {
    tenant_id: slot.tenant,
    branch: slot.branch,
    timeline_id: slot.timeline,
    slot: slot.name,
    restart_lsn: formatLsn(slot.restartLsn),
    behind_bytes: slot.behindBytes,
    max_bytes: slot.maxBytes,
    active: slot.active,
    lost: slot.isLost,
  };
}

export const standbyDropCommand: Command = {
  usage: "standby drop <branch> <slot>",
  description: "Keep no more WAL for a standby",
  options: [TENANT_OPTION],
  completions: ["branch"],
  examples: [["standby drop main paris", "When that standby is gone, or was promoted"]],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const branch = parseBranchName(requiredArg(args, 0));
    const slot = requiredArg(args, 1);
    await using client = new PageServerClient(pageServerAddress(environment));
    const { timeline_id: timeline } = await client.branch(tenant, branch);
    const safekeepers = listSafekeepers(environment).map(({ address }) => address);
    const { dropped, problems } = await dropStandbySlot(safekeepers, { tenant, timeline }, slot);
    for (const problem of problems) process.stderr.write(`zenith: ${problem}\n`);
    if (problems.length === 0) return print(`standby slot ${slot} of branch ${branch} dropped`);
    process.stderr.write(
      `zenith: standby slot ${slot} of branch ${branch} dropped at ${dropped} of ${safekeepers.length} ` +
        'safekeepers\nhint: repeat "zenith standby drop" when the others can\n',
    );
    return EXIT_UNAVAILABLE;
  },
};
