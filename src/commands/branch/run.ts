/** `zenith run`: a command with a database of its own, which is gone afterwards. */
import { randomBytes } from "node:crypto";
import { ZenithError } from "../../common/errors.ts";
import { parseBranchName, type TenantId } from "../../common/id.ts";
import { formatBranchPoint, parseBranchPoint } from "../../common/moment.ts";
import { connectionEnvironment, connectionUri } from "../../compute/postgres/postgres_conf.ts";
import { untilPointArrived } from "../../control/branch_end.ts";
import { type ComputeInfo, createCompute, findComputePlace, startCompute } from "../../control/computes.ts";
import { deleteBranch } from "../../control/delete_branch.ts";
import {
  chooseTenant,
  type Environment,
  loadEnvironment,
  pageServerAddress,
} from "../../control/environment.ts";
import { type BranchInfo, PageServerClient } from "../../control/page_server_client.ts";
import { type Command, optionText, requiredArg, TENANT_OPTION } from "../cli/command.ts";
import { Progress } from "../cli/output.ts";
import { clientEnvironment, runProgram } from "../cli/program.ts";
import { SESSION_OPTIONS, sessionOf } from "../pg/uri.ts";
import { warnAboutSafekeeper } from "../safekeeper/prune.ts";

/** What nobody takes away after that time, because we were killed, goes by itself. */
const LIFETIME_MS = 86_400_000;

export const runCommand: Command = {
  usage: "run <start>",
  description: "Run a command on a throw-away branch, with DATABASE_URL set",
  options: [
    TENANT_OPTION,
    ...SESSION_OPTIONS,
    { flags: "--keep-on-failure", description: "Leave the branch and its Postgres when the command fails" },
  ],
  rest: "<command> <its arguments>",
  completions: ["branch"],
  examples: [
    ["run main -- npm test", "Tests on a copy of main's data"],
    ["run main@-1h -- psql -c 'select count(*) from t'", "A look at an hour ago"],
    ["run main --keep-on-failure -- ./migrate.sh", "A migration's dry run, to look at when it fails"],
  ],
  async run(args, options, [program, ...programArgs]) {
    if (program === undefined) {
      throw new ZenithError("invalid_argument", "what is to run?", {
        hint: 'the command goes after "--": zenith run main -- npm test',
      });
    }
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    await using client = new PageServerClient(pageServerAddress(environment));
    const { branch, compute } = await makeBranch(environment, client, tenant, requiredArg(args, 0));
    const session = sessionOf(options);
    let code: number | undefined;
    try {
      const connection = {
        ...connectionEnvironment(compute.address, session),
        DATABASE_URL: connectionUri(compute.address, session),
        ZENITH_BRANCH: branch.name,
      };
      code = await runProgram(program, programArgs, clientEnvironment(connection));
    } finally {
      if (code !== 0 && options["keepOnFailure"] === true) {
        process.stderr.write(
          `zenith: branch ${branch.name} is left for a look: zenith psql ${branch.name}\n` +
            `hint: remove it with "zenith branch delete ${branch.name} --stop"\n`,
        );
      } else await removeBranch(environment, client, compute, branch);
    }
    return code;
  },
};

async function makeBranch(
  environment: Environment,
  client: PageServerClient,
  tenant: TenantId,
  start: string,
): Promise<{ branch: BranchInfo; compute: ComputeInfo }> {
  using progress = new Progress("making a branch");
  const point = parseBranchPoint(start);
  await untilPointArrived(client, tenant, point);
  const name = parseBranchName(`run-${randomBytes(6).toString("hex")}`);
  const branch = await client.branchCreate(tenant, name, formatBranchPoint(point), LIFETIME_MS);
  const compute = await createCompute(environment, tenant, branch);
  try {
    await startCompute(environment, compute, { onProgress: (text) => progress.update(text) });
  } catch (error) {
    await removeBranch(environment, client, compute, branch);
    throw error;
  }
  return { branch, compute };
}

/** Nobody wants its data: it is stopped the quick way. */
async function removeBranch(
  environment: Environment,
  client: PageServerClient,
  { tenant }: ComputeInfo,
  branch: BranchInfo,
): Promise<void> {
  using _progress = new Progress("removing the branch");
  const name = parseBranchName(branch.name);
  const { problems } = await deleteBranch(environment, client, {
    tenant,
    name,
    branches: [branch],
    cascade: false,
    timelines: [branch.timeline_id],
    computes: [findComputePlace(environment, tenant, name)],
  });
  for (const problem of problems) warnAboutSafekeeper(problem);
}
