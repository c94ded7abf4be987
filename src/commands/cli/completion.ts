/**
 * `zenith completion`: shell completion. The script is only a few lines that call this program at
 * every Tab, so that the shell knows every command and option, and the current branches.
 */
import { readdirSync } from "node:fs";
import { ZenithError } from "../../common/errors.ts";
import { computeOfFileName, formatComputeName, isOwn } from "../../common/compute_name.ts";
import { branchOfFileName, isId, parseTenantId } from "../../common/id.ts";
import type { EnvironmentPaths } from "../../common/paths.ts";
import { chooseTenant, loadEnvironment } from "../../control/environment.ts";
import {
  type Command,
  type CommandGroup,
  commandName,
  type CommandOption,
  type Completion,
  requiredArg,
} from "./command.ts";
import { translate } from "./other_names.ts";
import { print } from "./output.ts";

/**
 * By the shell's name. Each script passes the words up to the cursor, the last one unfinished. It
 * falls back to file names when there is no answer.
 */
export const COMPLETION_SCRIPTS: Readonly<Record<string, string>> = {
  bash: `_zenith() {
  local IFS=$'\\n'
  COMPREPLY=($("\${COMP_WORDS[0]}" complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
# A moment is one word: main@0/16B5A50
COMP_WORDBREAKS=\${COMP_WORDBREAKS//@}
complete -o default -F _zenith zenith`,
  zsh: `#compdef zenith
_zenith() {
  local -a found
  found=("\${(@f)$("\${words[1]}" complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n "\${found[1]}" ]]; then compadd -- "\${found[@]}"; else _files; fi
}
# Where zsh loads this file at the first Tab, it is the function's body.
if [[ "\${funcstack[1]}" == _zenith ]]; then _zenith "$@"; else compdef _zenith zenith; fi`,
  fish: `function __zenith_complete
  set -l words (commandline -opc) (commandline -ct)
  $words[1] complete -- $words[2..-1] 2>/dev/null
end
complete -c zenith -a '(__zenith_complete)'`,
};

const INSTALL: Readonly<Record<string, string>> = {
  bash: "source <(zenith completion bash)",
  zsh: "source <(zenith completion zsh)",
  fish: "zenith completion fish | source",
};

export const completionCommand: Command = {
  usage: "completion <shell>",
  description: "Print what makes bash, zsh or fish complete commands, options and branches",
  completions: [Object.keys(COMPLETION_SCRIPTS)],
  examples: Object.entries(INSTALL).map(([shell, line]) => [
    `completion ${shell}`,
    `In ${shell}'s startup file: ${line}`,
  ]),
  run([shell]) {
    const script = COMPLETION_SCRIPTS[requiredArg([shell], 0)];
    if (script === undefined) {
      throw new ZenithError("invalid_argument", `there is no completion for "${shell}"`, {
        hint: `there is for ${Object.keys(COMPLETION_SCRIPTS).join(", ")}`,
      });
    }
    print(script);
    return Promise.resolve();
  },
};

/**
 * The command that the scripts above call. It must be quick and must not fail: it prints nothing
 * instead.
 *
 * @param groups returns every command. It is a function because this command is among them
 */
export function completeCommandOf(groups: () => Promise<readonly CommandGroup[]>): Command {
  return {
    usage: "complete",
    description: "Print what the last word may become, one candidate per line",
    rest: "<words>",
    hidden: true,
    async run(_args, _options, words) {
      const commands = (await groups()).flatMap((group) => group.commands);
      for (const candidate of complete(commands, words, environmentNames())) print(candidate);
    },
  };
}

/** The names in an environment. */
export interface Names {
  branches(): readonly string[];
  /** The computes beside branches' own, such as `main@0/16B5A50` and `main@replica1`. */
  moments(): readonly string[];
  tenants(): readonly string[];
}

/**
 * Reads the names from the environment's directories, so that no server has to run. Names on a
 * remote page server are not known.
 */
function environmentNames(): Names {
  const quietly = (read: (paths: EnvironmentPaths) => string[]) => () => {
    try {
      return read(loadEnvironment().paths);
    } catch {
      return [];
    }
  };
  return {
    branches: quietly((paths) => {
      const tenant = chooseTenant(loadEnvironment(), undefined);
      return readdirSync(paths.pageserver.branches(tenant)).map(branchOfFileName)
        .filter((name) => name !== null);
    }),
    moments: quietly((paths) =>
      readdirSync(paths.computes(chooseTenant(loadEnvironment(), undefined)))
        .map(computeOfFileName)
        .filter((name) => name !== null)
        .filter((name) => !isOwn(name))
        .map(formatComputeName)
    ),
    tenants: quietly((paths) =>
      readdirSync(paths.pageserver.tenants).filter(isId).map((tenant) => parseTenantId(tenant))
    ),
  };
}

/**
 * Returns the completions of the last of `words`, which were typed after the program's name.
 * Returns nothing where a file name belongs.
 */
export function complete(commands: readonly Command[], words: readonly string[], names: Names): string[] {
  const shown = commands.filter((command) => command.hidden !== true);
  const current = words.at(-1) ?? "";
  const before = words.slice(0, -1);
  return candidates(shown, translate(before), current, names).filter((candidate) =>
    candidate.startsWith(current)
  )
    .sort();
}

function candidates(
  commands: readonly Command[],
  before: readonly string[],
  current: string,
  names: Names,
): string[] {
  const [first, second] = before;
  if (first === undefined) {
    const globals = ["--help", "--version"];
    return current.startsWith("-") ? globals : [...new Set(["help", ...commands.map(firstWord)])];
  }
  if (first === "help") return candidates(commands, before.slice(1), current, names);
  const found = commands.find((command) => commandName(command) === `${first} ${second}`) ??
    commands.find((command) => commandName(command) === first);
  // `branch` is a command and also the first word of others.
  const seconds = second === undefined
    ? commands.map(commandName).filter((name) => name.startsWith(`${first} `))
      .map((name) => name.slice(first.length + 1))
    : [];
  if (found === undefined) return seconds;
  const words = before.slice(commandName(found).split(" ").length);
  // The words after `--` are for another program.
  if (words.includes("--")) return [];
  const options = found.options ?? [];
  const open = takesValue(options, words.at(-1));
  if (open !== undefined) return values(open.values, names);
  if (current.startsWith("-")) return [...options.flatMap(longNames), "--help"];
  const given = words.filter((word, i) => !word.startsWith("-") && !takesValue(options, words[i - 1])).length;
  return [...seconds, ...values(found.completions?.[given], names)];
}

function values(of: Completion | undefined, names: Names): string[] {
  if (of === undefined) return [];
  if (of === "branch") return [...names.branches()];
  if (of === "compute") return [...names.branches(), ...names.moments()];
  if (of === "tenant") return [...names.tenants()];
  return [...of];
}

function firstWord(command: Command): string {
  return commandName(command).split(" ")[0];
}

/** Returns the option that `word` names, if its value comes next. */
function takesValue(options: readonly CommandOption[], word: string | undefined): CommandOption | undefined {
  if (word === undefined || !word.startsWith("-") || word.includes("=")) return undefined;
  return options.find(({ flags }) => flags.includes("<") && flagNames(flags).includes(word));
}

function longNames({ flags }: CommandOption): string[] {
  return flagNames(flags).filter((name) => name.startsWith("--"));
}

/** Splits `-m, --mode <mode>` into `-m` and `--mode`. */
function flagNames(flags: string): string[] {
  return flags.replace(/<.*$/, "").split(",").map((name) => name.trim());
}
