/** Formats the output of `--help`: for all commands, for a group, or for one. */
import { VERSION } from "../../common/version.ts";
import { type Command, type CommandGroup, commandName, EXIT_CODES } from "./command.ts";

interface Row {
  readonly left: string;
  readonly right: string;
}

/** Their names, and what each is for. */
export const ENVIRONMENT_VARIABLES: readonly (readonly [name: string, what: string])[] = [
  ["ZENITH_REPO_DIR", "Where the environment is (default: the nearest .zenith)"],
  ["ZENITH_REMOTE", "As --remote; ZENITH_TOKEN and ZENITH_CA go with it"],
  ["POSTGRES_DISTRIB_DIR", "The PostgreSQL to use: above its bin/, or above v14 … v18"],
  ["ZENITH_PG_PORTS", "Where new Postgres' ports are looked for (default: 15432-32767)"],
  ["ZENITH_PG_USER", "Whom Postgres runs as when Zenith runs as root (default: postgres, else nobody)"],
];

/** `zenith --help`. */
export function overview(groups: readonly CommandGroup[]): string {
  const shown = groups.map(({ title, commands }) => ({
    title,
    rows: visible(commands).map(({ usage, description }) => ({ left: usage, right: description })),
  }));
  const width = widest(shown.flatMap(({ rows }) => rows));
  return [
    `zenith ${VERSION}: branches at any point in time, for unmodified PostgreSQL`,
    section("Usage", ["  zenith <command> [options]", "  zenith <command> --help"]),
    ...shown.map(({ title, rows }) => section(title, table(rows, width))),
    section(
      "Options",
      table([
        { left: "--remote <url>", right: "Do it at a zenith serve elsewhere, with --token and --ca" },
        { left: "-h, --help", right: "Help" },
        { left: "-v, --version", right: "The version" },
      ]),
    ),
    section(
      "Environment variables",
      table(ENVIRONMENT_VARIABLES.map(([left, right]) => ({ left, right }))),
    ),
    section(
      "Exit codes",
      table(EXIT_CODES.map(({ code, meaning }) => ({ left: `${code}`, right: meaning }))),
    ),
  ].join("\n\n");
}

/** `zenith <command> --help`. */
export function commandHelp(command: Command, commands: readonly Command[]): string {
  const options = [
    ...(command.options ?? []).map((option) => ({
      left: option.flags,
      right: option.default === undefined
        ? option.description
        : `${option.description} (default: ${option.default})`,
    })),
    { left: "-h, --help", right: "This help" },
  ];
  const rest = command.rest === undefined ? "" : ` [-- ${command.rest}]`;
  const related = visible(commands).filter((other) => isRelated(command, other));
  return [
    command.description,
    section("Usage", [`  zenith ${command.usage} [options]${rest}`]),
    section("Options", table(options)),
    ...(command.examples === undefined ? [] : [
      section(
        "Examples",
        command.examples.flatMap(([line, what]) => [`  $ zenith ${line}`, `      ${what}`]),
      ),
    ]),
    ...(related.length === 0 ? [] : [
      section(
        "See also",
        table(related.map(({ usage, description }) => ({ left: usage, right: description }))),
      ),
    ]),
  ].join("\n\n");
}

/**
 * `zenith <word> --help`, for a word that is not a command but starts several; undefined when it
 * starts none.
 */
export function groupHelp(word: string, commands: readonly Command[]): string | undefined {
  const group = visible(commands).filter((command) => commandName(command).startsWith(`${word} `));
  if (group.length === 0) return undefined;
  const rows = group.map(({ usage, description }) => ({ left: `zenith ${usage}`, right: description }));
  return section("Commands", table(rows));
}

/** Whether the two commands have the same first word. */
function isRelated(command: Command, other: Command): boolean {
  return other !== command && firstWord(other) === firstWord(command);
}

function firstWord(command: Command): string {
  return commandName(command).split(" ")[0];
}

function visible(commands: readonly Command[]): readonly Command[] {
  return commands.filter((command) => command.hidden !== true);
}

function section(title: string, lines: readonly string[]): string {
  return `${title}:\n${lines.join("\n")}`;
}

function table(rows: readonly Row[], width = widest(rows)): string[] {
  return rows.map(({ left, right }) => `  ${left.padEnd(width)}  ${right}`);
}

function widest(rows: readonly Row[]): number {
  return Math.max(...rows.map(({ left }) => left.length));
}
