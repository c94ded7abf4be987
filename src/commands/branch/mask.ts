/**
 * `branch mask` and `branch require-mask`: branches that show nothing of what they were before a
 * mask.
 */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { ZenithError } from "../../common/errors.ts";
import { type BranchName, parseBranchName } from "../../common/id.ts";
import { formatLsn } from "../../common/lsn.ts";
import { type MaskFile, parseMaskFile } from "../../common/mask_file.ts";
import { parseBranchPoint } from "../../common/moment.ts";
import { parseStorageChoice } from "../../compute/storage.ts";
import { chooseTenant, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { maskBranch, type MaskedBranch } from "../../control/mask_branch.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import {
  type Command,
  JSON_OPTION,
  optionText,
  optionTexts,
  type OptionValues,
  requiredArg,
  TENANT_OPTION,
} from "../cli/command.ts";
import { Interruption } from "../cli/interruption.ts";
import { print, printJson, Progress } from "../cli/output.ts";
import { printStarted } from "../pg/started.ts";
import { STORAGE_OPTION } from "../role/compute.ts";
import { warnAboutSafekeeper } from "../safekeeper/prune.ts";
import { branchJson } from "./list.ts";
import { keptName } from "./restore.ts";
import { NOTHING_LEFT } from "./throw_away.ts";

export const branchMaskCommand: Command = {
  usage: "branch mask <name> <source>",
  description: "Make, or make anew, a branch of masked data with no way back before the mask",
  options: [
    TENANT_OPTION,
    {
      flags: "--sql <[database=]file>",
      description: "SQL that masks, run in that database (postgres when left out); may be repeated",
      multiple: true,
    },
    {
      flags: "--keep-as <name>",
      description: "If it exists, the name of what it is now; <name>-before-<time> when left out",
    },
    { flags: "--discard", description: "If it exists, keep nothing of what it is now" },
    STORAGE_OPTION,
    JSON_OPTION,
  ],
  completions: [[], "branch"],
  examples: [
    ["branch mask prod-masked prod --sql app=mask.sql", "People branch from prod-masked from now on"],
    ["branch mask prod-masked prod@-1h --sql app=mask.sql --discard", "The same again, from newer data"],
  ],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const name = parseBranchName(requiredArg(args, 0));
    const point = parseBranchPoint(requiredArg(args, 1));
    const storage = optionText(options, "storage");
    const files = maskFiles(options);
    const keepAs = keptAs(name, options);
    await using client = new PageServerClient(pageServerAddress(environment));
    let made: MaskedBranch;
    {
      using interruption = new Interruption(NOTHING_LEFT);
      using progress = new Progress("making a branch");
      made = await maskBranch(environment, client, tenant, {
        name,
        point,
        files,
        keepAs,
        storage: storage === undefined ? undefined : parseStorageChoice(storage),
        onProgress: (text) => progress.update(text),
        throwIfAsked: () => interruption.throwIfAsked(),
      });
    }
    for (const problem of made.problems) warnAboutSafekeeper(problem);
    const { branch, work, isAgain, compute } = made;
    if (options["json"] === true) return printJson({ ...branchJson(branch), work_branch: work.name });
    print(`branch ${branch.name} is masked: its history begins at ${formatLsn(branch.masked_from_lsn!)}`);
    print(`it reads from branch ${work.name}, which is not masked`);
    if (isAgain && keepAs !== undefined) print(`what it was is branch ${keepAs} now`);
    if (compute !== undefined) printStarted(environment, compute, "started again");
  },
};

/** @throws {ZenithError} `invalid_argument`, `not_found` */
function maskFiles(options: OptionValues): MaskFile[] {
  const texts = optionTexts(options, "sql");
  if (texts.length === 0) {
    throw new ZenithError("invalid_argument", "what masks the branch?", {
      hint: "name a file: --sql mask.sql, or --sql app=mask.sql for database app",
    });
  }
  return texts.map((text) => {
    const { database, file } = parseMaskFile(text);
    if (existsSync(file)) return { database, file: resolve(file) };
    throw new ZenithError("not_found", `there is no file ${resolve(file)}`);
  });
}

/** @throws {ZenithError} `invalid_argument` */
function keptAs(name: BranchName, options: OptionValues): BranchName | undefined {
  const keepAs = optionText(options, "keepAs");
  if (options["discard"] !== true) return parseBranchName(keepAs ?? keptName(name, new Date()));
  if (keepAs === undefined) return undefined;
  throw new ZenithError("invalid_argument", "--discard keeps nothing, and --keep-as says how to keep it");
}

export const branchRequireMaskCommand: Command = {
  usage: "branch require-mask <name>",
  description: "Refuse branches of a branch, and a Postgres on it, but for its masks",
  options: [TENANT_OPTION, { flags: "--off", description: "Allow that again" }, JSON_OPTION],
  completions: ["branch"],
  examples: [
    ["branch require-mask prod", "From now on, people use its masked branches"],
    ["branch require-mask prod --off", "As every other branch"],
  ],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const name = parseBranchName(requiredArg(args, 0));
    await using client = new PageServerClient(pageServerAddress(environment));
    const branch = await client.branchRequireMask(tenant, name, options["off"] !== true);
    if (options["json"] === true) return printJson(branchJson(branch));
    print(`branch ${name} ${branch.requires_mask ? "is branched by its masks alone" : "requires no mask"}`);
  },
};
