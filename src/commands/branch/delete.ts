/** `zenith branch delete`. */
import { ZenithError } from "../../common/errors.ts";
import { isId, parseBranchName, parseTimelineId, type TenantId, type TimelineId } from "../../common/id.ts";
import { destroyCompute, isUp, listComputes } from "../../control/computes.ts";
import { chooseTenant, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { deleteFromSafekeepers } from "../../control/safekeepers.ts";
import { type BranchInfo, PageServerClient } from "../../control/page_server_client.ts";
import { type Command, optionText, requiredArg, TENANT_OPTION } from "../cli/command.ts";
import { print, Progress } from "../cli/output.ts";
import { warnAboutSafekeeper } from "../safekeeper/prune.ts";

export const branchDeleteCommand: Command = {
  usage: "branch delete <name>",
  description: "Delete a branch with its data, and its Postgres, which must be stopped",
  options: [TENANT_OPTION, { flags: "--cascade", description: "And all branches that come from it" }],
  completions: ["branch"],
  examples: [
    ["branch delete dev", "When no branch comes from it"],
    ["branch delete dev --cascade", "And all that come from it"],
  ],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const wanted = requiredArg(args, 0);
    // A timeline whose branch file is damaged is named by its id.
    const name = isId(wanted) ? parseTimelineId(wanted) : parseBranchName(wanted);
    await using client = new PageServerClient(pageServerAddress(environment));
    using _progress = new Progress("deleting");
    // The page server knows who writes to a branch; a Postgres that looks at its past only we know.
    const going = descendants(await client.branchList(tenant), await timelineOf(client, tenant, name));
    const computes = listComputes(environment, tenant).filter((compute) =>
      going.has(compute.identity.timeline)
    );
    const running = computes.filter(isUp).map(({ branch }) => branch);
    if (running.length > 0) {
      throw new ZenithError("conflict", `a Postgres runs on ${running.join(", ")}`, {
        hint: `stop it with "zenith pg stop ${running[0]}"`,
      });
    }
    const deleted = await client.branchDelete(tenant, name, options["cascade"] === true);
    for (const compute of computes) destroyCompute(compute);
    for (const branch of deleted) print(`branch ${branch} deleted`);
    if (isId(name)) print(`timeline ${name} deleted`);
    const timelines = [...going].map((timeline) => ({ tenant, timeline }));
    for (const problem of await deleteFromSafekeepers(environment, timelines)) warnAboutSafekeeper(problem);
  },
};

/** null when there is no such branch, or what is left of it does not tell. */
async function timelineOf(
  client: PageServerClient,
  tenant: TenantId,
  name: string,
): Promise<TimelineId | null> {
  if (isId(name)) return parseTimelineId(name);
  const all = [...await client.branchList(tenant), ...await client.branchDamaged(tenant)];
  return all.find((branch) => branch.name === name)?.timeline_id ?? null;
}

/** A branch's timeline and those of all branches that come from it; none when there is none. */
function descendants(branches: readonly BranchInfo[], root: TimelineId | null): Set<TimelineId> {
  const found = new Set(root === null ? [] : [root]);
  // A set is walked in the order in which it grows.
  for (const timeline of found) {
    for (const branch of branches) {
      if (branch.ancestor_id === timeline) found.add(branch.timeline_id);
    }
  }
  return found;
}
