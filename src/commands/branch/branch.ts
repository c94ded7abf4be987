/** `zenith branch` and `branch create`: creates a branch, or lists the branches. */
import { parseDuration } from "../../common/duration.ts";
import { ZenithError } from "../../common/errors.ts";
import { parseBranchName, type TenantId } from "../../common/id.ts";
import { formatLsn } from "../../common/lsn.ts";
import { formatBranchPoint, parseBranchPoint } from "../../common/moment.ts";
import { untilPointArrived } from "../../control/branch_end.ts";
import {
  chooseTenant,
  defaultBranch,
  type Environment,
  loadEnvironment,
  pageServerAddress,
} from "../../control/environment.ts";
import { type BranchInfo, PageServerClient } from "../../control/page_server_client.ts";
import { ensureStarted, printStarted, startedJson } from "../pg/started.ts";
import { branchJson, printBranches, warnAboutDamage } from "./list.ts";
import { askText } from "../cli/ask.ts";
import {
  type Command,
  type CommandOption,
  JSON_OPTION,
  optionText,
  type OptionValues,
  TENANT_OPTION,
} from "../cli/command.ts";
import { askBranch } from "../cli/missing.ts";
import { formatBranchTree, print, printJson } from "../cli/output.ts";

const NEW_BRANCH_OPTIONS: readonly CommandOption[] = [
  {
    flags: "--expires <duration>",
    description: "Delete the new branch after that time: 90s, 30m, 2h30m, 7d",
  },
  { flags: "--start", description: "Make its Postgres and start it" },
  { flags: "--psql", description: "The same, and connect to it" },
];

export const branchCommand: Command = {
  usage: "branch [name] [start]",
  description: "Show the branches, or make one from a branch, branch@LSN or branch@-5m",
  options: [TENANT_OPTION, ...NEW_BRANCH_OPTIONS, JSON_OPTION],
  completions: [[], "branch"],
  examples: [
    ["branch", "The branches as a tree"],
    ["branch dev main", "From the end of main, as it is now"],
    ["branch before main@0/223C288", "From an LSN of main's past"],
    ["branch oops main@-5m", "As it was five minutes ago"],
    ['branch before2 "main@yesterday 14:00"', "From a moment, by the clock on the wall here"],
    ['branch before3 "main@2026-11-22 10:15:00"', "From a moment of another day; zones are understood"],
    ["branch tmp main --expires 2h", "One that goes by itself"],
    ["branch try main --psql", "With its Postgres, and a session on it"],
  ],
  rest: "<psql's arguments>",
  async run([name, start], options, rest) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    if (name !== undefined) {
      const from = start ?? await askBranch(`Where is branch ${name} to start?`, options);
      if (from !== undefined) return await makeBranch({ environment, tenant, name, from }, options, rest);
      throw new ZenithError("invalid_argument", `where is branch ${name} to start?`, {
        hint: `for example "zenith branch ${name} main", main@-5m or main@0/16B5A50`,
      });
    }
    assertRestIsForPsql(options, rest);
    await using client = new PageServerClient(pageServerAddress(environment));
    const branches = await client.branchList(tenant);
    if (options["json"] === true) printBranches(branches, options);
    else for (const line of formatBranchTree(branches)) print(line);
    return warnAboutDamage(await client.branchDamaged(tenant));
  },
};

export const branchCreateCommand: Command = {
  usage: "branch create [name] [start]",
  description: "Make a branch, from the default one's end when no start is named",
  options: [
    TENANT_OPTION,
    { flags: "--name <name>", description: "The other way to name it", values: [] },
    { flags: "--parent <start>", description: "The other way to name its start", values: "branch" },
    ...NEW_BRANCH_OPTIONS,
    JSON_OPTION,
  ],
  completions: [[], "branch"],
  rest: "<psql's arguments>",
  examples: [
    ["branch create dev", "From the end of the default branch"],
    ["branch create --name dev --parent main@-5m", "From main as it was five minutes ago"],
  ],
  async run([name, start], options, rest) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const wanted = one(name, options, "name") ?? await askText("What is the branch to be called?");
    if (wanted === undefined) {
      throw new ZenithError("invalid_argument", "what is the branch to be called?", {
        hint: `name it, as in "zenith branch create dev"`,
      });
    }
    const from = one(start, options, "parent") ?? defaultBranch(environment, tenant);
    return await makeBranch({ environment, tenant, name: wanted, from }, options, rest);
  },
};

/** @throws {ZenithError} `invalid_argument` when both the argument and the option are given */
function one(argument: string | undefined, options: OptionValues, option: string): string | undefined {
  const value = optionText(options, option);
  if (argument !== undefined && value !== undefined) {
    throw new ZenithError("invalid_argument", `"${argument}" and --${option} "${value}" name the same thing`);
  }
  return argument ?? value;
}

/** @throws {ZenithError} `invalid_argument` when there are words that the command would ignore */
function assertRestIsForPsql(options: OptionValues, rest: readonly string[]): void {
  if (rest.length === 0 || options["psql"] === true) return;
  throw new ZenithError("invalid_argument", '"zenith branch" takes something after "--" only with --psql');
}

interface NewBranch {
  readonly environment: Environment;
  readonly tenant: TenantId;
  readonly name: string;
  /** `branch@moment`. */
  readonly from: string;
}

async function makeBranch(
  { environment, tenant, name, from }: NewBranch,
  options: OptionValues,
  rest: readonly string[],
): Promise<number | void> {
  const expires = optionText(options, "expires");
  const lifetimeMs = expires === undefined ? undefined : parseLifetime(expires);
  assertRestIsForPsql(options, rest);
  await using client = new PageServerClient(pageServerAddress(environment));
  const branchName = parseBranchName(name);
  const point = parseBranchPoint(from);
  await untilPointArrived(client, tenant, point);
  const branch = await client.branchCreate(tenant, branchName, formatBranchPoint(point), lifetimeMs);
  const isJson = options["json"] === true;
  if (!isJson) print(created(branch));
  if (options["start"] !== true && options["psql"] !== true) {
    if (isJson) printJson(branchJson(branch));
    return;
  }
  const made = () => Promise.resolve(branch);
  const { compute, how } = await ensureStarted(environment, client, tenant, branchName, made);
  if (isJson) return printJson({ ...branchJson(branch), ...startedJson(compute) });
  if (options["psql"] === true) {
    const { psql } = await import("../pg/psql.ts");
    return await psql(environment, compute, rest);
  }
  printStarted(environment, compute, how);
}

function created(branch: BranchInfo): string {
  const at = branch.ancestor_lsn === null ? "" : ` at ${formatLsn(branch.ancestor_lsn)}`;
  const until = branch.expires_at === null ? "" : `, until ${branch.expires_at}`;
  return `branch ${branch.name} created${at}, timeline ${branch.timeline_id}${until}`;
}

/** @throws {ZenithError} `invalid_argument` unless it is a duration above zero */
export function parseLifetime(text: string): number {
  const ms = parseDuration(text);
  if (ms > 0) return ms;
  throw new ZenithError("invalid_argument", `a branch can't expire after "${text}"`, {
    hint: "name how long it is to live, such as 2h; one that is given no time, or never, stays",
  });
}
