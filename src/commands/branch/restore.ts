/** `branch restore` and `branch reset`: replace a branch's data with those of another point. */
import { ZenithError } from "../../common/errors.ts";
import { type BranchName, parseBranchName, type TenantId } from "../../common/id.ts";
import { formatLsn } from "../../common/lsn.ts";
import { type BranchPoint, parseBranchPoint } from "../../common/moment.ts";
import { formatTimeForName } from "../../common/timestamp.ts";
import {
  chooseTenant,
  type Environment,
  loadEnvironment,
  pageServerAddress,
} from "../../control/environment.ts";
import { type BranchInfo, PageServerClient } from "../../control/page_server_client.ts";
import { restoreBranch, type Restored } from "../../control/restore_branch.ts";
import {
  type Command,
  type CommandOption,
  JSON_OPTION,
  optionText,
  type OptionValues,
  requiredArg,
  TENANT_OPTION,
} from "../cli/command.ts";
import { print, printJson, Progress } from "../cli/output.ts";
import { printStarted } from "../pg/started.ts";
import { warnAboutSafekeeper } from "../safekeeper/prune.ts";
import { branchJson } from "./list.ts";

const KEEP_AS_OPTION: CommandOption = {
  flags: "--keep-as <name>",
  description: "The name under which what the branch is now stays",
};

export const branchRestoreCommand: Command = {
  usage: "branch restore <name> <source>",
  description: "Put a branch back to how it was; what it is now gets another name",
  options: [
    TENANT_OPTION,
    { ...KEEP_AS_OPTION, description: `${KEEP_AS_OPTION.description}; <name>-before-<time> when left out` },
    { flags: "--discard", description: "Keep nothing of what the branch is now" },
    JSON_OPTION,
  ],
  completions: ["branch", "branch"],
  examples: [
    ["branch restore main main@-10m", "As it was ten minutes ago; its Postgres is restarted on that"],
    ["branch restore dev main@0/223C288 --discard", "As main was; what dev had is deleted"],
  ],
  async run(args, options) {
    const name = parseBranchName(requiredArg(args, 0));
    const source = requiredArg(args, 1);
    const keepAs = optionText(options, "keepAs");
    if (options["discard"] === true && keepAs !== undefined) {
      throw new ZenithError("invalid_argument", "--discard keeps nothing, and --keep-as says how to keep it");
    }
    await restore(name, options, {
      point: ({ branch, branches }) => sourcePoint(source, branch, branches),
      keepAs: options["discard"] === true ? undefined : parseBranchName(keepAs ?? keptName(name, new Date())),
    });
  },
};

export const branchResetCommand: Command = {
  usage: "branch reset <name>",
  description: "Put a branch to its parent's end; its own changes are deleted",
  options: [TENANT_OPTION, KEEP_AS_OPTION, JSON_OPTION],
  completions: ["branch"],
  examples: [
    ["branch reset dev", "As main is now, if dev comes from main; its Postgres is restarted on that"],
    ["branch reset dev --keep-as dev-old", "Its own changes stay under another name"],
  ],
  async run(args, options) {
    const name = parseBranchName(requiredArg(args, 0));
    const keepAs = optionText(options, "keepAs");
    await restore(name, options, {
      point: ({ branch }) => ({ name: parentOf(branch), moment: { kind: "end" } }),
      keepAs: keepAs === undefined ? undefined : parseBranchName(keepAs),
    });
  },
};

interface Plan {
  readonly point: (known: { branch: BranchInfo; branches: readonly BranchInfo[] }) => BranchPoint;
  readonly keepAs: BranchName | undefined;
}

async function restore(name: BranchName, options: OptionValues, { point, keepAs }: Plan): Promise<void> {
  const environment = loadEnvironment();
  const tenant: TenantId = chooseTenant(environment, optionText(options, "tenantid"));
  await using client = new PageServerClient(pageServerAddress(environment));
  const branches = await client.branchList(tenant);
  // A branch that is not listed is damaged or does not exist; `client.branch` throws the right
  // error.
  const branch = branches.find((branch) => branch.name === name) ?? await client.branch(tenant, name);
  let restored: Restored;
  {
    using progress = new Progress("restoring");
    restored = await restoreBranch(environment, client, tenant, branch, point({ branch, branches }), {
      keepAs,
      onProgress: (text) => progress.update(text),
    });
  }
  for (const problem of restored.problems) warnAboutSafekeeper(problem);
  report(environment, restored, branches, keepAs, options);
}

function report(
  environment: Environment,
  { branch, compute }: Restored,
  branches: readonly BranchInfo[],
  keepAs: BranchName | undefined,
  options: OptionValues,
): void {
  if (options["json"] === true) return printJson({ ...branchJson(branch), kept_as: keepAs ?? null });
  const from = branches.find(({ timeline_id }) => timeline_id === branch.ancestor_id)?.name;
  const at = branch.ancestor_lsn === null ? "" : ` at ${formatLsn(branch.ancestor_lsn)}`;
  // A branch that was restored to its own past comes from the timeline that is kept.
  const origin = from === branch.name ? keepAs : from;
  print(
    `branch ${branch.name} restored to ${origin ?? branch.ancestor_id}${at}, timeline ${branch.timeline_id}`,
  );
  if (keepAs !== undefined) print(`what it was is branch ${keepAs} now`);
  if (compute !== undefined) printStarted(environment, compute, "started again");
}

/** Returns a name such as `dev-before-20261122-093000`, in UTC. */
export function keptName(name: BranchName, now: Date): string {
  return `${name}-before-${formatTimeForName(now)}`;
}

/**
 * Parses the source. `@-5m` and `^self@-5m` mean the branch itself, `^parent` the branch it comes
 * from.
 */
function sourcePoint(source: string, branch: BranchInfo, branches: readonly BranchInfo[]): BranchPoint {
  const point = parseBranchPoint(source);
  if (point.name === "" || point.name === "^self") return { ...point, name: branch.name };
  if (point.name !== "^parent") return { ...point, name: known(point.name, branches) };
  return { ...point, name: parentOf(branch) };
}

/**
 * Checks that a branch exists. The page server could report that only after Postgres was stopped.
 *
 * @throws {ZenithError} `not_found`
 */
function known(name: string, branches: readonly BranchInfo[]): string {
  if (branches.some((branch) => branch.name === name || branch.timeline_id === name)) return name;
  throw new ZenithError("not_found", `there is no branch ${name}`, {
    hint: '"zenith branch" shows those there are',
  });
}

function parentOf({ name, ancestor_id }: BranchInfo): string {
  if (ancestor_id !== null) return ancestor_id;
  throw new ZenithError("conflict", `branch ${name} comes from no other: it began with its tenant`, {
    hint: `name the point to go back to: "zenith branch restore ${name} ${name}@-10m"`,
  });
}
