/** From argv to a command: cac parses, this makes its ways ours. */
import { type CAC, cac } from "cac";
import { ZenithError } from "../common/errors.ts";
import { VERSION } from "../common/version.ts";
import { type Command, EXIT_CODES, EXIT_USAGE, type OptionValues } from "./command.ts";
import { print } from "./output.ts";

/**
 * Finds the command that `argv` asks for and runs it.
 *
 * @param argv what follows the program's name
 * @returns the exit code
 * @throws {ZenithError} `invalid_argument` for usage that makes no sense; else what the command throws
 */
export async function runCommand(commands: readonly Command[], argv: readonly string[]): Promise<number> {
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
      outcome = command.run(values.map(unprotect), optionValues(options));
    });
  }
  cli.help((sections) => {
    if (cli.matchedCommand === undefined) return overview(commands);
    return sections.slice(1);
  });

  const words = joinCommandWords(commands, argv);
  const [first] = words;
  if (first === "-v" || first === "--version") {
    print(`zenith ${VERSION}`);
    return 0;
  }
  if (first === undefined) {
    cli.outputHelp();
    return EXIT_USAGE;
  }
  try {
    cli.parse(["", "zenith", ...words.map(protect)], { run: false });
    if (cli.options["help"] === true) return 0;
    if (cli.matchedCommand === undefined) throw unknownCommand(commands, words);
    rejectRepeated(cli);
    cli.runMatchedCommand();
  } catch (error) {
    if (!(error instanceof Error) || error.name !== "CACError") throw error;
    const command = cli.matchedCommand?.name ?? "";
    throw new ZenithError("invalid_argument", unprotect(error.message.replaceAll("`", '"')) ?? "", {
      hint: `see "zenith ${command} --help"`,
    });
  }
  return (await outcome) ?? 0;
}

/** cac matches one word: `pg start` is handed to it as one. */
function joinCommandWords(commands: readonly Command[], argv: readonly string[]): string[] {
  const two = argv.slice(0, 2).join(" ");
  const known = argv.length >= 2 && commands.some((command) => commandName(command) === two);
  return known ? [two, ...argv.slice(2)] : [...argv];
}

function commandName(command: Command): string {
  return command.usage.replace(/\s*[<[].*$/, "");
}

/** mri, under cac, turns whatever looks like a number into one: an id of digits only would lose most of them. */
const PROTECTION = "\u0001";

function protect(word: string): string {
  const equals = word.startsWith("-") ? word.indexOf("=") : -1;
  if (equals >= 0) return word.slice(0, equals + 1) + protect(word.slice(equals + 1));
  return word !== "" && !word.startsWith("-") && !Number.isNaN(Number(word)) ? PROTECTION + word : word;
}

function unprotect(value: unknown): string | undefined {
  return value === undefined ? undefined : String(value).replaceAll(PROTECTION, "");
}

function optionValues(options: Record<string, unknown>): OptionValues {
  const values: Record<string, string | true | undefined> = {};
  for (const [name, value] of Object.entries(options)) {
    if (name === "--" || value === undefined || value === false) continue;
    values[name] = value === true ? true : unprotect(value);
  }
  return values;
}

/** Of two values for one option neither is the one that was meant for sure. */
function rejectRepeated(cli: CAC): void {
  for (const [name, value] of Object.entries(cli.options)) {
    if (name !== "--" && Array.isArray(value)) {
      throw new ZenithError("invalid_argument", `option "${name}" is given ${value.length} times`);
    }
  }
}

function unknownCommand(commands: readonly Command[], words: readonly string[]): ZenithError {
  const [first = ""] = words;
  const group = commands.filter((command) => !command.hidden && command.usage.startsWith(`${first} `))
    .filter((command) => commandName(command).includes(" "));
  if (group.length > 0) {
    const names = group.map((command) => `zenith ${command.usage}`).join(", ");
    return new ZenithError("invalid_argument", `"${first}" needs a second word`, {
      hint: `one of: ${names}`,
    });
  }
  return new ZenithError("invalid_argument", `there is no command "${first}"`, {
    hint: '"zenith --help" lists them',
  });
}

function overview(commands: readonly Command[]): { title?: string; body: string }[] {
  const shown = commands.filter((command) => command.hidden !== true);
  const width = Math.max(...shown.map((command) => command.usage.length));
  return [
    { body: `zenith ${VERSION}: branches at any point in time, for unmodified PostgreSQL` },
    { title: "Usage", body: "  zenith <command> [options]" },
    {
      title: "Commands",
      body: shown.map((command) => `  ${command.usage.padEnd(width)}  ${command.description}`).join("\n"),
    },
    {
      title: "Options",
      body: "  -h, --help     The options of a command\n  -v, --version  The version",
    },
    {
      title: "Environment",
      body: "  ZENITH_REPO_DIR       Where the environment is (default: ./.zenith)\n" +
        "  POSTGRES_DISTRIB_DIR  The PostgreSQL 15 to use: the directory above its bin/\n" +
        "  ZENITH_PG_USER        Whom Postgres runs as when Zenith runs as root (default: postgres, else nobody)",
    },
    {
      title: "Exit codes",
      body: EXIT_CODES.map(({ code, meaning }) => `  ${code}  ${meaning}`).join("\n"),
    },
  ];
}
