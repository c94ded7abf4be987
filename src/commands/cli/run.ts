/**
 * Parses argv and runs the command. cac does the parsing; this module adapts it to Zenith's rules.
 */
import { type CAC, cac } from "cac";
import { ZenithError } from "../../common/errors.ts";
import { VERSION } from "../../common/version.ts";
import {
  type Command,
  type CommandCatalog,
  type CommandGroup,
  commandName,
  EXIT_USAGE,
  loadCommands,
  type OptionValues,
} from "./command.ts";
import { instead, translate } from "./other_names.ts";
import { print } from "./output.ts";

/**
 * Asks for the required arguments after `given`. Returns the answers; none when nobody can be
 * asked.
 */
export type AskMissing = (
  command: Command,
  given: readonly string[],
  options: OptionValues,
) => Promise<readonly string[]>;

/**
 * Finds the command in `typed` and runs it.
 *
 * @param typed the words after the program's name
 * @param askMissing called when the command line is right but for arguments that are missing
 * @returns the exit code
 * @throws {ZenithError} `invalid_argument` for invalid usage; otherwise the command's error
 */
export async function runCommand(
  catalog: readonly CommandCatalog[],
  typed: readonly string[],
  askMissing: AskMissing = () => Promise.resolve([]),
): Promise<number> {
  const argv = translate(typed);
  const [first] = argv;
  if (first === undefined) {
    const { overview } = await import("./help.ts");
    print(overview(await loadCommands(catalog)));
    return EXIT_USAGE;
  }
  if (first === "-v" || first === "--version" || (first === "version" && argv.length === 1)) {
    print(`zenith ${VERSION}`);
    return 0;
  }
  if (asksForHelp(argv)) {
    print(await help(await loadCommands(catalog), translate(argv.filter((word) => !HELP_WORDS.has(word)))));
    return 0;
  }
  const loaders = new Map(catalog.flatMap(({ commands }) => Object.entries(commands)));
  const words = joinCommandWords((name) => loaders.has(name), argv);
  const load = loaders.get(words[0]);
  // An option may come before the command. Which word is its value depends on the command.
  const commands = load === undefined ? allOf(await loadCommands(catalog)) : [await load()];
  return await parse(commands, words, askMissing);
}

async function parse(
  commands: readonly Command[],
  words: readonly string[],
  askMissing: AskMissing,
): Promise<number> {
  const cli = cac("zenith");
  let outcome: Promise<number | void> | undefined;
  for (const command of commands) {
    const registered = cli.command(command.usage, command.description);
    for (const option of command.options ?? []) {
      registered.option(
        option.flags,
        option.description,
        option.default === undefined ? {} : { default: option.default },
      );
    }
    registered.action((...values: unknown[]) => {
      const options = values.pop() as Record<string, unknown>;
      outcome = command.run(values.map(unprotect), optionValues(options), restOf(command, options));
    });
  }
  try {
    cli.parse(["", "zenith", ...words.map(protect)], { run: false });
    const command = commands.find((command) => commandName(command) === cli.matchedCommand?.name);
    if (command === undefined) throw unknownCommand(commands, words);
    rejectRepeated(cli, command);
    await addMissing(cli, command, askMissing);
    cli.runMatchedCommand();
  } catch (error) {
    if (!(error instanceof Error) || error.name !== "CACError") throw error;
    throw new ZenithError("invalid_argument", unprotect(error.message.replaceAll("`", '"')) ?? "", {
      hint: usageHint(commands.find((command) => commandName(command) === cli.matchedCommand?.name)),
    });
  }
  return (await outcome) ?? 0;
}

/**
 * Parses a command's arguments as {@link runCommand} does, without running it.
 *
 * @throws {ZenithError} `invalid_argument`
 */
export async function parseOptions(command: Command, argv: readonly string[]): Promise<OptionValues> {
  let parsed: OptionValues = {};
  const run: Command["run"] = (_args, options) => {
    parsed = options;
    return Promise.resolve();
  };
  await parse([{ ...command, run }], argv, () => Promise.resolve([]));
  return parsed;
}

function allOf(groups: readonly CommandGroup[]): readonly Command[] {
  return groups.flatMap(({ commands }) => commands);
}

/** @throws {CACError} when anything else is wrong: then there is no use in asking */
async function addMissing(cli: CAC, command: Command, askMissing: AskMissing): Promise<void> {
  cli.matchedCommand?.checkUnknownOptions();
  cli.matchedCommand?.checkOptionValue();
  const required = cli.matchedCommand?.args.filter((argument) => argument.required).length ?? 0;
  if (cli.args.length >= required) return;
  const given = cli.args.map((word) => unprotect(word) ?? "");
  const answers = await askMissing(command, given, optionValues(cli.options));
  cli.args = [...cli.args, ...answers.map(protect)];
}

function usageHint(command: Command | undefined): string {
  const name = command === undefined ? "" : commandName(command);
  const rest = command?.rest === undefined ? "" : `after "--" comes ${command.rest}; `;
  return `${rest}see "zenith ${name} --help"`;
}

const HELP_WORDS: ReadonlySet<string> = new Set(["help", "-h", "--help"]);

/**
 * Whether help is asked for, as in `zenith help pg start` and `zenith pg start --help`. Words after
 * `--` are for another program.
 */
function asksForHelp(argv: readonly string[]): boolean {
  const end = argv.indexOf("--");
  const own = end < 0 ? argv : argv.slice(0, end);
  return own[0] === "help" || own.includes("--help") || own.includes("-h");
}

async function help(groups: readonly CommandGroup[], argv: readonly string[]): Promise<string> {
  const { commandHelp, groupHelp, overview } = await import("./help.ts");
  const commands = allOf(groups);
  const [first, ...others] = argv;
  if (first === undefined) return overview(groups);
  const [name] = joinCommandWords((name) => commands.some((command) => commandName(command) === name), argv);
  const command = commands.find((command) => commandName(command) === name);
  if (command !== undefined) return commandHelp(command, commands);
  const group = others.length === 0 ? groupHelp(first, commands) : undefined;
  if (group !== undefined) return group;
  throw unknownCommand(commands, argv);
}

/** Joins `pg start` into one word, because cac matches only one. */
function joinCommandWords(isCommand: (name: string) => boolean, argv: readonly string[]): string[] {
  const two = argv.slice(0, 2).join(" ");
  return argv.length >= 2 && isCommand(two) ? [two, ...argv.slice(2)] : [...argv];
}

/**
 * Marks words that look like numbers. mri, which cac uses, would convert them, and an id of digits
 * only would lose most of its digits.
 */
const PROTECTION = "\u0001";

function protect(word: string): string {
  const equals = word.startsWith("-") ? word.indexOf("=") : -1;
  if (equals >= 0) return word.slice(0, equals + 1) + protect(word.slice(equals + 1));
  // A lone dash is a value: standard input.
  if (word === "-") return PROTECTION + word;
  return word !== "" && !word.startsWith("-") && !Number.isNaN(Number(word)) ? PROTECTION + word : word;
}

function unprotect(value: unknown): string | undefined {
  return value === undefined ? undefined : String(value).replaceAll(PROTECTION, "");
}

function optionValues(options: Record<string, unknown>): OptionValues {
  const values: Record<string, string | true | undefined> = {};
  for (const [name, value] of Object.entries(options)) {
    if (name === "--" || value === undefined || value === false) continue;
    const all: unknown[] = Array.isArray(value) ? value : [value];
    values[name] = value === true ? true : all.map(unprotect).join("\n");
  }
  return values;
}

/** Rejects an option that is given twice: there is no telling which value is meant. */
function rejectRepeated(cli: CAC, command: Command): void {
  const multiple = (command.options ?? []).filter((option) => option.multiple === true)
    .flatMap(({ flags }) => [...flags.matchAll(/-([a-z]+)[ ,]/g)].map(([, name]) => name));
  for (const [name, value] of Object.entries(cli.options)) {
    if (name !== "--" && Array.isArray(value) && !multiple.includes(name)) {
      throw new ZenithError("invalid_argument", `option "${name}" is given ${value.length} times`);
    }
  }
}

/** @throws {ZenithError} `invalid_argument` when there are words that the command would ignore */
function restOf(command: Command, options: Record<string, unknown>): string[] {
  const words = Array.isArray(options["--"]) ? options["--"].map((word) => unprotect(word) ?? "") : [];
  if (words.length > 0 && command.rest === undefined) {
    throw new ZenithError("invalid_argument", `"zenith ${commandName(command)}" takes nothing after "--"`);
  }
  return words;
}

function unknownCommand(commands: readonly Command[], words: readonly string[]): ZenithError {
  const [first = "", second] = words;
  const known = commands.filter((command) => command.hidden !== true);
  const group = known.filter((command) => commandName(command).startsWith(`${first} `));
  if (group.length > 0) {
    const what = second === undefined || second.startsWith("-")
      ? `"${first}" needs a second word`
      : `there is no command "${first} ${second}"`;
    return new ZenithError("invalid_argument", what, {
      hint: `one of: ${group.map((command) => `zenith ${command.usage}`).join(", ")}`,
    });
  }
  const other = instead(first);
  if (other !== undefined) {
    return new ZenithError("invalid_argument", `there is no command "${first}"`, { hint: other });
  }
  const close = closest(first, known.map((command) => commandName(command).split(" ")[0]));
  return new ZenithError("invalid_argument", `there is no command "${first}"`, {
    hint: `${close === undefined ? "" : `did you mean "zenith ${close}"? `}"zenith --help" lists them`,
  });
}

/** Returns the name that `word` is probably a typo of. */
function closest(word: string, names: readonly string[]): string | undefined {
  const MOST_EDITS = 2;
  const ranked = names.map((name) => ({ name, edits: editDistance(word, name) }))
    .filter(({ name, edits }) => edits <= MOST_EDITS && edits < name.length / 2)
    .sort((a, b) => a.edits - b.edits);
  return ranked[0]?.name;
}

/** The edit distance: how many letters to insert, delete, replace or swap with their neighbour. */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = last[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      let best = Math.min(last[j] + 1, row[j - 1] + 1, replaced);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, beforeLast[j - 2] + 1);
      }
      row.push(best);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length];
}
