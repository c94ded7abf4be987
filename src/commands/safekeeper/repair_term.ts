/** `zenith safekeeper repair-term`: lowers a term that was driven up. */
import { isOwn } from "../../common/compute_name.ts";
import { ZenithError } from "../../common/errors.ts";
import { parseBranchName } from "../../common/id.ts";
import { listComputes } from "../../control/computes.ts";
import { chooseTenant, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { repairedTerm } from "../../control/repaired_term.ts";
import { listSafekeepers, lowerTerm, safekeeperTimeline } from "../../control/safekeepers.ts";
import { type Command, optionText, requiredArg, TENANT_OPTION } from "../cli/command.ts";
import { print } from "../cli/output.ts";

/** Repairs a timeline whose term was driven up so far that no election can be won any more. */
export const safekeeperRepairTermCommand: Command = {
  usage: "safekeeper repair-term <branch>",
  description: "Set back a branch's term at its safekeepers where it was driven up",
  options: [TENANT_OPTION],
  completions: ["branch"],
  examples: [["safekeeper repair-term main", "When a start says that no election can be won any more"]],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const branch = parseBranchName(requiredArg(args, 0));
    await using client = new PageServerClient(pageServerAddress(environment));
    const { timeline_id: timeline } = await client.branch(tenant, branch);
    const runs = listComputes(environment, tenant).some((compute) =>
      compute.identity.timeline === timeline && isOwn(compute) && compute.status === "running"
    );
    if (runs) {
      throw new ZenithError("conflict", `a Postgres runs on ${branch}`, {
        hint: `stop it with "zenith pg stop ${branch}"`,
      });
    }
    // Every safekeeper has to answer: any of them may have the newest log.
    const found = await Promise.all(
      listSafekeepers(environment).map(async ({ id, address }) => {
        const status = await safekeeperTimeline(address, tenant, timeline);
        const historyTerm = status?.term_history.at(-1)?.term ?? 0;
        return { id, address, term: status?.term ?? 0, historyTerm };
      }),
    );
    const repaired = repairedTerm(found);
    const driven = found.filter(({ term }) => term > repaired);
    for (const { id, address, term } of driven) {
      await lowerTerm(address, { tenant, timeline }, repaired);
      print(`safekeeper ${id}: term ${term} set back to ${repaired}`);
    }
    if (driven.length === 0) print(`nothing to repair: the term of ${branch} was driven up at no safekeeper`);
  },
};
