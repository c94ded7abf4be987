/** `zenith pg start`: starts the Postgres of a branch. */
import { resolve } from "node:path";
import { ZenithError } from "../../common/errors.ts";
import { parseBranchName } from "../../common/id.ts";
import { formatLsn, type Lsn, parseLsn } from "../../common/lsn.ts";
import { parseStorageChoice } from "../../compute/storage.ts";
import { untilBranchEndArrived } from "../../control/branch_end.ts";
import { type ComputeInfo, findOrCreateCompute, startCompute } from "../../control/computes.ts";
import { chooseTenant, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { type Command, JSON_OPTION, optionText, requiredArg, TENANT_OPTION } from "../cli/command.ts";
import { FIRST_START_OPTIONS, PREWARM_OPTION, READ_ONLY_OPTION, STORAGE_OPTION } from "../role/compute.ts";
import { printJson, Progress } from "../cli/output.ts";
import { printStarted, startedJson } from "./started.ts";

export const pgStartCommand: Command = {
  usage: "pg start <branch>",
  description: "Start the Postgres of a branch, at its end or read-only in its past",
  options: [
    TENANT_OPTION,
    READ_ONLY_OPTION,
    STORAGE_OPTION,
    PREWARM_OPTION,
    ...FIRST_START_OPTIONS,
    JSON_OPTION,
  ],
  completions: ["branch"],
  examples: [
    ["pg start main", "Goes on where the branch ends"],
    ["pg start main --lsn 0/223C288", "Only to look at how it was"],
    ["pg start main --prewarm", "What it used before it was stopped comes in the background"],
    ["pg start dev --first-start-sql mask.sql", "Nobody sees the branch before that has run"],
  ],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const name = parseBranchName(requiredArg(args, 0));
    const lsn = optionText(options, "lsn");
    const readOnlyAt = lsn === undefined ? undefined : parseLsn(lsn);
    const storage = optionText(options, "storage");
    const sqlFile = optionText(options, "firstStartSql");
    await using client = new PageServerClient(pageServerAddress(environment));
    const compute = await findOrCreateCompute(environment, tenant, name, () => client.branch(tenant, name));
    const runs = isRunningAt(compute, readOnlyAt);
    if (!runs) {
      using progress = new Progress("starting Postgres");
      if (readOnlyAt !== undefined) await assertPast(client, compute, readOnlyAt);
      await startCompute(environment, compute, {
        ...(storage === undefined ? {} : { storage: parseStorageChoice(storage) }),
        ...(options["prewarm"] === true ? { prewarm: true } : {}),
        ...(readOnlyAt === undefined ? {} : { readOnlyAt }),
        ...(options["keepSubscriptions"] === true ? { keepSubscriptions: true } : {}),
        ...(options["keepCron"] === true ? { keepCron: true } : {}),
        ...(sqlFile === undefined ? {} : { firstStartSql: resolve(sqlFile) }),
        onProgress: (text) => progress.update(text),
      });
    }
    if (options["json"] === true) return printJson(startedJson(compute, readOnlyAt));
    printStarted(compute, runs ? "runs already" : "started", readOnlyAt);
  },
};

/**
 * Whether it does already what is asked of it. @throws {ZenithError} `conflict` when it does
 * something else
 */
function isRunningAt(compute: ComputeInfo, readOnlyAt: Lsn | undefined): boolean {
  if (compute.status !== "running") return false;
  if (compute.readOnlyAt === (readOnlyAt ?? null)) return true;
  const now = compute.readOnlyAt === null ? "at its end" : `read-only at ${formatLsn(compute.readOnlyAt)}`;
  throw new ZenithError("conflict", `the Postgres of branch ${compute.branch} is running ${now}`, {
    hint: `stop it first: "zenith pg stop ${compute.branch}"`,
  });
}

/** The page server would wait for a future LSN, but nobody would write it. */
async function assertPast(client: PageServerClient, compute: ComputeInfo, lsn: Lsn): Promise<void> {
  const find = async () =>
    (await client.branchList(compute.tenant)).find(({ timeline_id }) =>
      timeline_id === compute.identity.timeline
    );
  let branch = await find();
  if (branch !== undefined && lsn > branch.next_lsn) {
    // What the safekeepers have is the past too.
    await untilBranchEndArrived(client, compute.tenant, branch);
    branch = await find();
  }
  if (branch !== undefined && lsn > branch.next_lsn) {
    throw new ZenithError(
      "out_of_range",
      `LSN ${formatLsn(lsn)} is in the future: branch ${branch.name} ends at ${
        formatLsn(branch.latest_valid_lsn)
      }`,
    );
  }
}
