/**
 * Asks questions on the terminal. They go to standard error, so that standard output can be a pipe.
 */
import { ZenithError } from "../../common/errors.ts";
import type { CommandOption, OptionValues } from "./command.ts";

/** How many names of a list are visible at once. */
const VISIBLE_NAMES = 10;

/**
 * Whether there is a terminal to ask on. One that does not know its width, as some containers give
 * their programs, could not show a question.
 */
export function canAsk(): boolean {
  const { stdin, stderr } = process;
  return stdin.isTTY === true && stderr.isTTY === true && stderr.columns > 0;
}

const TERMINAL = { input: process.stdin, output: process.stderr };

/**
 * Asks for one of these names. The user moves to it, or types a part of it.
 *
 * @returns undefined when there is no terminal, no name, or no answer
 */
export async function askChoice(message: string, names: readonly string[]): Promise<string | undefined> {
  if (!canAsk() || names.length === 0) return undefined;
  const { autocomplete, isCancel } = await import("@clack/prompts");
  const options = names.map((value) => ({ value }));
  const answer = await autocomplete({ message, options, maxItems: VISIBLE_NAMES, ...TERMINAL });
  return isCancel(answer) ? undefined : answer;
}

/** Asks for a word. @returns undefined when there is no terminal, or no answer */
export async function askText(message: string): Promise<string | undefined> {
  if (!canAsk()) return undefined;
  const { isCancel, text } = await import("@clack/prompts");
  const answer = await text({ message, ...TERMINAL });
  return isCancel(answer) || answer === "" ? undefined : answer;
}

/** The option of every command that permanently removes things that the user did not name. */
export const YES_OPTION: CommandOption = { flags: "--yes", description: "Do it without asking" };

/**
 * Asks whether to go on, unless `--yes` is given.
 *
 * @throws {ZenithError} `conflict` when the answer is no, or there is no terminal to ask on
 */
export async function confirm(message: string, options: OptionValues): Promise<void> {
  if (options["yes"] === true) return;
  if (!canAsk()) {
    throw new ZenithError("conflict", "nothing was removed: there is no terminal to ask on", {
      hint: "look at what would go, and say --yes",
    });
  }
  const prompts = await import("@clack/prompts");
  if (await prompts.confirm({ message, initialValue: false, ...TERMINAL }) === true) return;
  throw new ZenithError("conflict", "nothing was removed");
}

/** Like {@link confirm}, but without a terminal it goes on: scripts have decided what they do. */
export async function confirmOnTerminal(message: string, options: OptionValues): Promise<void> {
  if (canAsk()) await confirm(message, options);
}
