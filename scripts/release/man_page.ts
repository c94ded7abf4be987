/** The manual page zenith(1): what `zenith --help` and every `zenith <command> --help` say, as man(7). */
import { type Command, type CommandGroup, EXIT_CODES } from "../../src/commands/cli/command.ts";
import { ENVIRONMENT_VARIABLES } from "../../src/commands/cli/help.ts";

/** @param date when the version was made, `2026-11-30` @returns the page's source */
export function manPage(groups: readonly CommandGroup[], version: string, date: string): string {
  const lines = [
    `.TH ZENITH 1 ${date} "zenith ${version}" "User commands"`,
    ...["ad l", "nh"].map((request) => `.${request}`),
    ".SH NAME",
    "zenith \\- branches at any point in time, for unmodified PostgreSQL",
    ".SH SYNOPSIS",
    ".B zenith",
    italic("command"),
    "[options]",
    ".br",
    ".B zenith",
    italic("command"),
    ".B \\-\\-help",
    ".SH COMMANDS",
    ...groups.flatMap(({ title, commands }) => {
      const shown = commands.filter(({ hidden }) => hidden !== true);
      return [`.SS ${quoted(title)}`, ...shown.flatMap(commandLines)];
    }),
    ".SH ENVIRONMENT",
    ...ENVIRONMENT_VARIABLES.flatMap(([name, what]) => item(name, what)),
    '.SH "EXIT STATUS"',
    ...EXIT_CODES.flatMap(({ code, meaning }) => item(String(code), meaning)),
    ".SH FILES",
    ...item(".zenith", "An environment: the nearest one from the working directory upward is used."),
    '.SH "SEE ALSO"',
    ".BR psql (1),",
    ".BR postgres (1),",
    ".BR pgbouncer (1)",
  ];
  return `${lines.join("\n")}\n`;
}

function commandLines({ usage, description, options = [], examples = [], rest }: Command): string[] {
  return [
    ...item(`zenith ${usage}${rest === undefined ? "" : ` [-- ${rest}]`}`, sentence(description)),
    ".RS",
    ...options.flatMap(({ flags, description, default: value }) =>
      item(flags, sentence(value === undefined ? description : `${description} (default: ${value})`))
    ),
    ...(examples.length === 0 ? [] : [
      ".PP",
      "Examples:",
      ...examples.flatMap(([line, what]) => item(`zenith ${line}`, sentence(what))),
    ]),
    ".RE",
  ];
}

function item(term: string, text: string): string[] {
  return [".TP", `.B ${quoted(term)}`, escaped(text)];
}

function italic(text: string): string {
  return `.I ${escaped(text)}`;
}

function sentence(text: string): string {
  return /[.?!]$/.test(text) ? text : `${text}.`;
}

/** As one argument of a macro. */
function quoted(text: string): string {
  return `"${escaped(text).replaceAll('"', '""')}"`;
}

/** Text that has none of troff's own characters: groff_char(7) and groff(7), "Escapes". */
function escaped(text: string): string {
  const plain = text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replaceAll("…", "\\&...");
  return plain.replaceAll(/^(?=[.'])/gm, "\\&").replaceAll("\n", " ");
}
