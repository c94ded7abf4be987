/** Asks for the arguments that a command line leaves out: the names there are, or a word. */
import { isOwn } from "../../common/compute_name.ts";
import { chooseTenant, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { listComputes } from "../../control/computes.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { askChoice, askText, canAsk } from "./ask.ts";
import { type Command, type Completion, optionText, type OptionValues } from "./command.ts";

/**
 * Asks for each required argument that is missing, if there is a terminal.
 *
 * @param given the arguments that are there
 * @returns the answers; fewer than are missing when the user gives up, or there is nothing to ask
 * @throws {ZenithError} `unavailable` when the page server has the names and can't be reached
 */
export async function askMissing(
  command: Command,
  given: readonly string[],
  options: OptionValues,
): Promise<string[]> {
  const answers: string[] = [];
  const missing = requiredArguments(command).slice(given.length);
  if (missing.length === 0 || !canAsk()) return answers;
  for (const [i, name] of missing.entries()) {
    const answer = await askArgument(name, command.completions?.[given.length + i], options);
    if (answer === undefined) break;
    answers.push(answer);
  }
  return answers;
}

/** Returns the names in `<angle>` brackets of the usage. */
function requiredArguments({ usage }: Command): string[] {
  return Array.from(usage.matchAll(/<([^>]+)>/g), ([, name]) => name);
}

async function askArgument(
  name: string,
  completion: Completion | undefined,
  options: OptionValues,
): Promise<string | undefined> {
  if (completion === undefined || completion.length === 0) return await askText(`What is <${name}>?`);
  if (typeof completion !== "string") return await askChoice(`Which <${name}>?`, completion);
  return await askChoice(questionOf(completion, name), await namesOf(completion, options));
}

function questionOf(completion: string, name: string): string {
  const what = completion === "tenant" ? "tenant" : "branch";
  // Commands with one argument call it <name> or <branch>: that says nothing more.
  return name === "name" || name === what ? `Which ${what}?` : `Which ${what} is <${name}>?`;
}

/** Returns the names that the page server and the environment know now. */
async function namesOf(
  completion: "branch" | "compute" | "tenant",
  options: OptionValues,
): Promise<string[]> {
  const environment = loadEnvironment();
  await using client = new PageServerClient(pageServerAddress(environment));
  if (completion === "tenant") return await client.tenantList();
  const tenant = chooseTenant(environment, optionText(options, "tenantid"));
  const branches = (await client.branchList(tenant)).map(({ name }) => name);
  if (completion === "branch") return branches;
  const beside = listComputes(environment, tenant).filter((compute) => !isOwn(compute));
  return [...branches, ...beside.map(({ name }) => name)];
}

/** Asks which branch is meant. @returns undefined when there is no terminal, or no answer */
export async function askBranch(message: string, options: OptionValues): Promise<string | undefined> {
  return canAsk() ? await askChoice(message, await namesOf("branch", options)) : undefined;
}
