/** Asks the user before something is permanently removed. */
import { createInterface } from "node:readline/promises";
import { ZenithError } from "../../common/errors.ts";
import type { CommandOption, OptionValues } from "./command.ts";

/** The option of every command that permanently removes things that the user did not name. */
export const YES_OPTION: CommandOption = { flags: "--yes", description: "Do it without asking" };

/**
 * Asks on the terminal, unless `--yes` is given.
 *
 * @throws {ZenithError} `conflict` when the answer is no, or there is no terminal to ask on
 */
export async function confirm(question: string, options: OptionValues): Promise<void> {
  if (options["yes"] === true) return;
  if (!process.stdin.isTTY) {
    throw new ZenithError("conflict", "nothing was removed: there is no terminal to ask on", {
      hint: "look at what would go, and say --yes",
    });
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await terminal.question(`${question} [y/N] `);
    if (/^y(es)?$/i.test(answer.trim())) return;
  } finally {
    terminal.close();
  }
  throw new ZenithError("conflict", "nothing was removed");
}
