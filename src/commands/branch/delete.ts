/** `zenith branch delete`: deletes a branch and its data. */
import { ZenithError } from "../../common/errors.ts";
import {
  isId,
  parseBranchName,
  parseBranchOrTimeline,
  parseTimelineId,
  type TenantId,
  type TimelineId,
} from "../../common/id.ts";
import { isUp } from "../../control/compute_places.ts";
import { listComputes } from "../../control/computes.ts";
import { deleteBranch } from "../../control/delete_branch.ts";
import {
  chooseTenant,
  loadEnvironment,
  pageServerAddress,
  setDefaultBranch,
} from "../../control/environment.ts";
import { type BranchInfo, PageServerClient } from "../../control/page_server_client.ts";
import { confirmOnTerminal, YES_OPTION } from "../cli/ask.ts";
import { type Command, optionText, requiredArg, TENANT_OPTION } from "../cli/command.ts";
import { print, Progress } from "../cli/output.ts";
import { warnAboutSafekeeper } from "../safekeeper/prune.ts";

export const branchDeleteCommand: Command = {
  usage: "branch delete <name>",
  description: "Delete a branch with its data and its stopped Postgres",
  options: [
    TENANT_OPTION,
    { flags: "--stop", description: "And end its running Postgres at once" },
    { flags: "--cascade", description: "And all branches that come from it" },
    YES_OPTION,
  ],
  completions: ["branch"],
  examples: [
    ["branch delete dev", "When no branch comes from it"],
    ["branch delete dev --stop", "With a Postgres that runs on it"],
    ["branch delete dev --cascade", "And all that come from it"],
  ],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const wanted = requiredArg(args, 0);
    // A timeline whose branch file is damaged is named by its id.
    const name = parseBranchOrTimeline(wanted);
    await using client = new PageServerClient(pageServerAddress(environment));
    // The page server knows which computes write to a branch. It doesn't know those that look at
    // its past.
    const branches = await client.branchList(tenant);
    const going = descendants(branches, await timelineOf(client, tenant, branches, name));
    const computes = listComputes(environment, tenant).filter((compute) =>
      going.has(compute.identity.timeline)
    );
    const running = computes.filter(isUp).map(({ name }) => name);
    if (running.length > 0 && options["stop"] !== true) {
      throw new ZenithError("conflict", `a Postgres runs on ${running.join(", ")}`, {
        hint: `stop it with "zenith pg stop ${running[0]}", or let --stop end it at once`,
      });
    }
    const cascade = options["cascade"] === true;
    if (cascade && going.size > 1) {
      const names = branchesOf(branches, going).map(({ name }) => name);
      await confirmOnTerminal(`Delete ${names.join(", ")}?`, options);
    }
    using _progress = new Progress("deleting");
    const { deleted, problems } = await deleteBranch(environment, client, {
      tenant,
      name,
      cascade,
      timelines: [...going],
      computes,
    });
    for (const branch of deleted) print(`branch ${branch} deleted`);
    const { default_branch, default_tenant_id } = environment.config;
    if (default_branch !== undefined && tenant === default_tenant_id && deleted.includes(default_branch)) {
      setDefaultBranch(environment, parseBranchName("main"));
      print("it was the default branch: that is main again");
    }
    if (isId(name)) print(`timeline ${name} deleted`);
    for (const problem of problems) warnAboutSafekeeper(problem);
  },
};

/** Returns null when there is no such branch, or when it is too damaged to tell its timeline. */
async function timelineOf(
  client: PageServerClient,
  tenant: TenantId,
  branches: readonly BranchInfo[],
  name: string,
): Promise<TimelineId | null> {
  if (isId(name)) return parseTimelineId(name);
  const all = [...branches, ...await client.branchDamaged(tenant)];
  return all.find((branch) => branch.name === name)?.timeline_id ?? null;
}

/** Returns a branch's timeline and those of its descendants; an empty set when `root` is null. */
function descendants(branches: readonly BranchInfo[], root: TimelineId | null): Set<TimelineId> {
  const found = new Set(root === null ? [] : [root]);
  // Iteration over a set also visits elements that are added meanwhile.
  for (const timeline of found) {
    for (const branch of branches) {
      if (branch.ancestor_id === timeline) found.add(branch.timeline_id);
    }
  }
  return found;
}

/** Keeps the order of `timelines`, so the branch itself comes first. */
function branchesOf(branches: readonly BranchInfo[], timelines: ReadonlySet<TimelineId>): BranchInfo[] {
  return [...timelines].flatMap((timeline) => branches.filter((branch) => branch.timeline_id === timeline));
}
