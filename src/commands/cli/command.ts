/** Defines what a command is, with the options and exit codes that commands share. */
import { type ErrorKind, ZenithError } from "../../common/errors.ts";
import { parseHostPort } from "../../common/host_port.ts";
import type { ClusterOptions } from "../../pg_install/initdb.ts";
import { parsePostgresMajor, POSTGRES_MAJORS, postgresMajorsInWords } from "../../common/postgres_major.ts";

export interface CommandOption {
  /** In cac's syntax: `--tenantid <id>`. */
  readonly flags: string;
  readonly description: string;
  readonly default?: string;
  /** How shells complete its value. Defaults to file names. */
  readonly values?: Completion;
  /** The option may be repeated: its value has one line for each. */
  readonly multiple?: true;
}

/**
 * The possible values of an argument or an option: names from the environment, or these words.
 * `compute` means a branch, or a moment of one that a compute looks at.
 */
export type Completion = "branch" | "compute" | "tenant" | readonly string[];

/**
 * Values of options by camel-cased name: text for options that take a value, true for flags that
 * are given.
 */
export type OptionValues = Readonly<Record<string, string | true | undefined>>;

export interface Command {
  /** One or two words, then the arguments: `pg start <branch>`. */
  readonly usage: string;
  readonly description: string;
  readonly options?: readonly CommandOption[];
  /** Whole command lines, each with its purpose. */
  readonly examples?: readonly Example[];
  /** How shells complete its arguments, in order. Defaults to file names. */
  readonly completions?: readonly Completion[];
  /**
   * What `--help` calls the words after `--`, for a command that passes them to another program.
   */
  readonly rest?: string;
  /** Not listed in `zenith --help`, because other commands run it. */
  readonly hidden?: true;
  /**
   * @param args the arguments of `usage`, in order; undefined for optional ones that are missing
   * @param rest what follows `--`
   * @returns the exit code, 0 when nothing is returned
   */
  run(
    args: readonly (string | undefined)[],
    options: OptionValues,
    rest: readonly string[],
  ): Promise<number | void>;
}

/** Commands that belong together, under a title in `zenith --help`. */
export interface CommandGroup {
  readonly title: string;
  readonly commands: readonly Command[];
}

/** A group whose commands are known by name, and loaded when they are needed. */
export interface CommandCatalog {
  readonly title: string;
  readonly commands: Readonly<Record<string, () => Promise<Command>>>;
}

/** Loads all commands. */
export function loadCommands(catalog: readonly CommandCatalog[]): Promise<CommandGroup[]> {
  return Promise.all(catalog.map(async ({ title, commands }) => ({
    title,
    commands: await Promise.all(Object.values(commands).map((load) => load())),
  })));
}

/** The words before the arguments: `pg start`. */
export function commandName(command: Command): string {
  return command.usage.replace(/\s*[<[].*$/, "");
}

/** A command line, and what it does. */
export type Example = readonly [line: string, what: string];

export const TENANT_OPTION: CommandOption = {
  flags: "--tenantid <id>",
  description: "The tenant, 32 hex characters; the environment's default when left out",
  values: "tenant",
};

export const PG_VERSION_OPTION: CommandOption = {
  flags: "--pg-version <major>",
  description:
    `The major of its PostgreSQL, ${postgresMajorsInWords()}; the newest that is found when left out`,
  values: POSTGRES_MAJORS.map(String),
};

/** Options that are fixed when a tenant's cluster is created. */
export const CLUSTER_OPTIONS: readonly CommandOption[] = [
  { flags: "--locale <name>", description: "Its locale of the C library; C when left out" },
  { flags: "--encoding <name>", description: "Its encoding; UTF8 when left out" },
  { flags: "--icu-locale <name>", description: "Orders text by ICU, by this locale; from PostgreSQL 15 on" },
  { flags: "--data-checksums", description: "Pages have checksums; from PostgreSQL 18 on they have anyway" },
];

/** Returns the values of {@link CLUSTER_OPTIONS}. */
export function optionCluster(options: OptionValues): ClusterOptions {
  return {
    locale: optionText(options, "locale"),
    encoding: optionText(options, "encoding"),
    icuLocale: optionText(options, "icuLocale"),
    dataChecksums: options["dataChecksums"] === true ? true : undefined,
  };
}

/** The option of every command that lists or shows something. */
export const JSON_OPTION: CommandOption = {
  flags: "--json",
  description: "Print JSON, for programs: docs/cli.md says what is in it",
};

/** The meanings of the exit codes, as `zenith --help` prints them. */
export const EXIT_CODES: readonly { readonly code: number; readonly meaning: string }[] = [
  { code: 0, meaning: "done" },
  { code: 1, meaning: "failed" },
  { code: 2, meaning: "wrong usage or argument" },
  { code: 3, meaning: "not running, not reachable or timed out" },
  { code: 4, meaning: "what was named does not exist" },
  { code: 5, meaning: "exists already, or its state forbids it now" },
];

export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;
export const EXIT_UNAVAILABLE = 3;

const EXIT_CODE_OF_KIND: Readonly<Record<ErrorKind, number>> = {
  invalid_argument: EXIT_USAGE,
  out_of_range: EXIT_USAGE,
  unavailable: EXIT_UNAVAILABLE,
  timeout: EXIT_UNAVAILABLE,
  not_found: 4,
  already_exists: 5,
  conflict: 5,
  forbidden: EXIT_FAILED,
  corrupt_data: EXIT_FAILED,
  protocol: EXIT_FAILED,
  not_implemented: EXIT_FAILED,
  disk_full: EXIT_FAILED,
  limit_exceeded: EXIT_FAILED,
  io: EXIT_FAILED,
};

export function exitCodeOf(error: unknown): number {
  return error instanceof ZenithError ? EXIT_CODE_OF_KIND[error.kind] : EXIT_FAILED;
}

/** Returns the value of an option that takes one. */
export function optionText(options: OptionValues, name: string): string | undefined {
  const value = options[name];
  return typeof value === "string" ? value : undefined;
}

/** Returns the values of an option that may be repeated. */
export function optionTexts(options: OptionValues, name: string): string[] {
  return (optionText(options, name) ?? "").split("\n").filter((text) => text !== "");
}

/** @throws {ZenithError} `invalid_argument` unless it is a TCP port */
export function optionPort(options: OptionValues, name: string): number | undefined {
  const text = optionText(options, name);
  return text === undefined ? undefined : parseHostPort(`127.0.0.1:${text}`).port;
}

const BYTES_PER_GIB = 1 << 30;

/**
 * Returns the value of an option that takes a number of GiB, in bytes.
 *
 * @throws {ZenithError} `invalid_argument`, naming `flag`
 */
export function optionGib(options: OptionValues, name: string, flag: string, gibByDefault: number): number {
  const text = optionText(options, name) ?? String(gibByDefault);
  if (/^[1-9]\d{0,5}$/.test(text)) return Number(text) * BYTES_PER_GIB;
  throw new ZenithError("invalid_argument", `${flag} is "${text}": expected a number of GiB`);
}

/**
 * Returns the value of {@link PG_VERSION_OPTION}.
 *
 * @throws {ZenithError} `invalid_argument` when it is not a major that Zenith runs
 */
export function optionPgVersion(options: OptionValues): number | undefined {
  const text = optionText(options, "pgVersion");
  return text === undefined ? undefined : parsePostgresMajor(text, "--pg-version");
}

/** Returns an argument whose presence cac has checked. */
export function requiredArg(args: readonly (string | undefined)[], index: number): string {
  const value = args[index];
  if (value === undefined) throw new ZenithError("invalid_argument", `argument ${index + 1} is missing`);
  return value;
}
