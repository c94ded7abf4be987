/** `zenith pg start`: starts the Postgres of a branch. */
import { ZenithError } from "../../common/errors.ts";
import { parseBranchName } from "../../common/id.ts";
import { formatLsn, type Lsn, parseLsn } from "../../common/lsn.ts";
import { connectHint } from "../../compute/postgres/postgres_conf.ts";
import { parseStorageChoice } from "../../compute/storage.ts";
import { untilBranchEndArrived } from "../../control/branch_end.ts";
import { type ComputeInfo, findCompute, startCompute } from "../../control/computes.ts";
import {
  chooseTenant,
  type Environment,
  loadEnvironment,
  pageServerAddress,
} from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { type Command, optionText, requiredArg, TENANT_OPTION } from "../cli/command.ts";
import { PREWARM_OPTION, READ_ONLY_OPTION, STORAGE_OPTION } from "../role/compute.ts";
import { print, Progress } from "../cli/output.ts";

export const pgStartCommand: Command = {
  usage: "pg start <branch>",
  description: "Start the Postgres of a branch at its end, or read-only in its past",
  options: [TENANT_OPTION, READ_ONLY_OPTION, STORAGE_OPTION, PREWARM_OPTION],
  completions: ["branch"],
  examples: [
    ["pg start main", "Goes on where the branch ends"],
    ["pg start main --lsn 0/223C288", "Only to look at how it was"],
    ["pg start main --prewarm", "What it used before it was stopped comes in the background"],
  ],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const compute = findCompute(environment, tenant, parseBranchName(requiredArg(args, 0)));
    using progress = new Progress("starting Postgres");
    const storage = optionText(options, "storage");
    const lsn = optionText(options, "lsn");
    const readOnlyAt = lsn === undefined ? undefined : parseLsn(lsn);
    if (readOnlyAt !== undefined) await assertPast(environment, compute, readOnlyAt);
    await startCompute(environment, compute, {
      ...(storage === undefined ? {} : { storage: parseStorageChoice(storage) }),
      ...(options["prewarm"] === true ? { prewarm: true } : {}),
      ...(readOnlyAt === undefined ? {} : { readOnlyAt }),
      onProgress: (text) => progress.update(text),
    });
    print(`Postgres of branch ${compute.branch} started${lsn === undefined ? "" : `, read-only at ${lsn}`}`);
    print(`connect with: ${connectHint(compute.address)}`);
  },
};

/** The page server would wait for a future LSN, but nobody would write it. */
async function assertPast(environment: Environment, compute: ComputeInfo, lsn: Lsn): Promise<void> {
  await using client = new PageServerClient(pageServerAddress(environment));
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
