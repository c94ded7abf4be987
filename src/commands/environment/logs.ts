/** `zenith logs`: shows the logs of an environment. */
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { formatComputeName } from "../../common/compute_name.ts";
import type { ComputePaths } from "../../common/paths.ts";
import { sleep } from "../../common/sleep.ts";
import { allComputePlaces } from "../../control/compute_places.ts";
import {
  chooseTenant,
  type Environment,
  hasLocalPageServer,
  loadEnvironment,
} from "../../control/environment.ts";
import { type FilePosition, lastLines, parseLogLine, readSince } from "../../control/log_file.ts";
import { parseComputeName } from "../../control/moments.ts";
import { listSafekeepers } from "../../control/safekeepers.ts";
import { type Command, optionText, TENANT_OPTION } from "../cli/command.ts";
import { print } from "../cli/output.ts";

const DEFAULT_LINES = "20";
const POLL_MS = 200;

export const logsCommand: Command = {
  usage: "logs [server] [n]",
  description: "Show the logs of pageserver, of safekeeper [n], of a branch's Postgres, or all",
  options: [
    { flags: "-f, --follow", description: "Go on with what is added, until Ctrl-C" },
    { flags: "-n, --lines <n>", description: "How many lines of each log", default: DEFAULT_LINES },
    { flags: "--raw", description: "Lines as they are in the files: JSON, but for Postgres's own" },
    TENANT_OPTION,
  ],
  completions: ["compute"],
  examples: [
    ["logs", "The ends of all logs of this environment"],
    ["logs pageserver -f", "Watch the page server"],
    ["logs safekeeper 2 -n 100", "One of the safekeepers"],
    ["logs main", "The Postgres of branch main, and its supervisor"],
  ],
  async run([server, number], options) {
    const environment = loadEnvironment();
    const count = parseLineCount(optionText(options, "lines") ?? DEFAULT_LINES);
    const logs = findLogs(environment, server, number, optionText(options, "tenantid"));
    const format = options["raw"] === true ? (line: string) => line : formatLine;
    const printer = new Printer(logs.length > 1, format);
    const positions = new Map<string, FilePosition>();
    for (const log of logs) {
      const tail = lastLines(log.path, count);
      printer.print(log, tail?.text ?? "");
      if (tail !== undefined) positions.set(log.path, tail.end);
    }
    if (options["follow"] === true) await follow(logs, positions, printer);
    else if (positions.size === 0) print(`no log yet: ${logs.map(({ path }) => path).join(", ")}`);
  },
};

interface Log {
  readonly title: string;
  readonly path: string;
}

function parseLineCount(text: string): number {
  if (/^\d{1,7}$/.test(text)) return Number(text);
  throw new ZenithError("invalid_argument", `"${text}" is not a number of lines`);
}

/** @throws {ZenithError} `not_found`, `invalid_argument` */
function findLogs(
  environment: Environment,
  server: string | undefined,
  number: string | undefined,
  tenantOption: string | undefined,
): Log[] {
  if (number !== undefined && server !== "safekeeper") {
    throw new ZenithError("invalid_argument", `"${number}": only safekeepers have numbers`);
  }
  if (server === undefined) {
    const computes = allComputePlaces(environment).filter(({ tenant }) =>
      tenantOption === undefined || tenant === chooseTenant(environment, tenantOption)
    );
    return [
      ...pageServerLogs(environment),
      ...safekeeperLogs(environment, undefined),
      ...computes.flatMap(({ name, paths }) => computeLogs(name, paths)),
    ];
  }
  const tenant = chooseTenant(environment, tenantOption);
  const wanted = nameOf(server);
  // A branch may have the name of a server.
  const ofBranch = allComputePlaces(environment)
    .filter((compute) => compute.tenant === tenant && compute.name === wanted)
    .flatMap(({ name, paths }) => computeLogs(name, paths));
  if (server === "pageserver") return [...requireLocal(environment), ...ofBranch];
  if (server === "safekeeper") return [...safekeeperLogs(environment, number), ...ofBranch];
  if (ofBranch.length > 0) return ofBranch;
  throw new ZenithError("not_found", `branch ${wanted} has no Postgres, and so no log`, {
    hint: 'logs are of pageserver, safekeeper [n] or a branch: "zenith status" shows them',
  });
}

/** Returns the name that listings show, where a moment is an LSN. */
function nameOf(text: string): string {
  const { branch, moment, replica } = parseComputeName(text);
  return moment?.kind === "lsn" ? formatComputeName({ branch, moment: moment.lsn, replica }) : text;
}

function pageServerLogs(environment: Environment): Log[] {
  return hasLocalPageServer(environment)
    ? [{ title: "page server", path: environment.paths.pageserver.log }]
    : [];
}

function requireLocal(environment: Environment): Log[] {
  const logs = pageServerLogs(environment);
  if (logs.length > 0) return logs;
  throw new ZenithError("not_found", "the page server is another environment's: its log is there");
}

function safekeeperLogs(environment: Environment, number: string | undefined): Log[] {
  const all = listSafekeepers(environment);
  const wanted = number === undefined ? all : all.filter(({ id }) => String(id) === number);
  if (number !== undefined && wanted.length === 0) {
    throw new ZenithError("not_found", `there is no safekeeper ${number}`, {
      hint: all.length === 0
        ? "this environment has none"
        : `there are ${all.map(({ id }) => `safekeeper ${id}`).join(", ")}`,
    });
  }
  return wanted.map(({ id, paths }) => ({ title: `safekeeper ${id}`, path: paths.log }));
}

function computeLogs(name: string, paths: ComputePaths): Log[] {
  return [
    { title: `supervisor of branch ${name}`, path: paths.log },
    { title: `Postgres of branch ${name}`, path: paths.postgresLog },
  ];
}

/** Prints pieces of several logs. When the log changes, prints a line that names it. */
class Printer {
  readonly #titles: boolean;
  readonly #format: (line: string) => string;
  #last: Log | undefined;

  constructor(titles: boolean, format: (line: string) => string) {
    this.#titles = titles;
    this.#format = format;
  }

  print(log: Log, text: string): void {
    const lines = text.split("\n");
    if (lines.at(-1) === "") lines.pop();
    if (lines.length === 0) return;
    if (this.#titles && log !== this.#last) {
      print(`${this.#last === undefined ? "" : "\n"}==> ${log.title}: ${log.path} <==`);
    }
    this.#last = log;
    for (const line of lines) print(this.#format(line));
  }
}

/** Prints new lines until the process is interrupted or the reader is gone. */
async function follow(
  logs: readonly Log[],
  positions: Map<string, FilePosition>,
  printer: Printer,
): Promise<void> {
  // A line that is still being written is printed once it is complete.
  const pending = new Map<string, string>();
  for (;;) {
    for (const log of logs) {
      const tail = readSince(log.path, positions.get(log.path));
      if (tail === undefined) continue;
      positions.set(log.path, tail.end);
      const text = (pending.get(log.path) ?? "") + tail.text;
      const complete = text.lastIndexOf("\n") + 1;
      pending.set(log.path, text.slice(complete));
      printer.print(log, text.slice(0, complete));
    }
    await sleep(POLL_MS);
  }
}

/** Formats a Zenith log line for reading: time, level, message, then the other fields. */
function formatLine(text: string): string {
  const line = parseLogLine(text);
  if (line === undefined) return text;
  const fields = Object.entries(line.fields).map(([name, value]) => `${name}=${formatField(value)}`);
  const level = line.level === "info" ? "" : `${line.level.toUpperCase()}: `;
  return [line.time, `${level}${line.msg}`, ...fields].join("  ");
}

/** Formats a field. Of an error, only the message is shown; `--raw` shows its stack too. */
function formatField(value: unknown): string {
  if (typeof value === "object" && value !== null && "stack" in value && "message" in value) {
    return JSON.stringify(errorMessage(value.message));
  }
  return typeof value === "string" ? value : JSON.stringify(value);
}
