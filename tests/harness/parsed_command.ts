/** What a command line would run, without running it. */
import {
  type Command,
  type CommandCatalog,
  commandName,
  type OptionValues,
} from "../../src/commands/cli/command.ts";
import { runCommand } from "../../src/commands/cli/run.ts";
import { COMMANDS } from "../../src/commands/registry.ts";

export interface ParsedCommand {
  readonly name: string;
  readonly args: readonly string[];
  readonly options: OptionValues;
}

/** Parses a command line as `zenith` does. @returns undefined for one that runs no command, such as `--help` */
export async function parseCommand(words: readonly string[]): Promise<ParsedCommand | undefined> {
  let found: ParsedCommand | undefined;
  const idle = (command: Command): Command => ({
    ...command,
    run: (args, options) => {
      found = { name: commandName(command), args: args.filter((arg) => arg !== undefined), options };
      return Promise.resolve();
    },
  });
  const catalog = COMMANDS.map(({ title, commands }): CommandCatalog => ({
    title,
    commands: Object.fromEntries(
      Object.entries(commands).map(([name, load]) => [name, async () => idle(await load())]),
    ),
  }));
  await runCommand(catalog, words);
  return found;
}
