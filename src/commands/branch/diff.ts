/** `zenith branch diff`: shows the differences between two branches, or two moments of one. */
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { formatLsn } from "../../common/lsn.ts";
import { type ChangedRelation, PageServerClient } from "../../control/page_server_client.ts";
import { chooseTenant, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { findPgDump } from "../../pg_install/find_pg_dump.ts";
import {
  type Command,
  JSON_OPTION,
  optionText,
  type OptionValues,
  requiredArg,
  TENANT_OPTION,
} from "../cli/command.ts";
import { formatTable, print, printJson } from "../cli/output.ts";
import type { DataDiff, TableDiff } from "../../control/diff/data.ts";
import { schemaDiff } from "../../control/diff/schema.ts";
import type { SequenceDiff } from "../../control/diff/sequences.ts";
import type { Side } from "../../control/diff/side.ts";
import { arrivedPoint, lookAt, type Place, type ThrowAway } from "./throw_away.ts";

export const branchDiffCommand: Command = {
  usage: "branch diff <a> <b>",
  description: "Show what differs in schema and rows between two branches, or two moments of one",
  options: [
    TENANT_OPTION,
    { flags: "-d, --db <database>", description: "The database; postgres when left out", values: [] },
    { flags: "--schema", description: "Only the schema, as pg_dump -s writes it" },
    { flags: "--data", description: "Only the tables, with the numbers of rows that differ" },
    { flags: "--rows <table>", description: "Only that table: each row that differs", values: [] },
    JSON_OPTION,
  ],
  completions: ["branch", "branch"],
  examples: [
    ["branch diff main dev", "What dev has otherwise than main"],
    ["branch diff main@-1h main", "What has happened in the last hour"],
    ["branch diff main dev --schema --db shop", "Only the schema, of another database"],
    ["branch diff main@-1h main --rows orders", "Which orders are new (+), gone (-) or changed (~)"],
  ],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const database = optionText(options, "db") ?? "postgres";
    const labels = [requiredArg(args, 0), requiredArg(args, 1)] as const;
    const rows = optionText(options, "rows");
    const only = wantedOnly(options);
    await using client = new PageServerClient(pageServerAddress(environment));
    const place = { environment, client, tenant };
    const request: Request = { place, labels, database, changed: [], fetchesAhead: false };
    const isJson = options["json"] === true;
    const wantsSchema = only === undefined || only === "schema";
    const pgDump = wantsSchema ? await pgDumpOf(place, only === "schema") : undefined;
    const points = [await arrivedPoint(place, labels[0]), await arrivedPoint(place, labels[1])];
    if (rows !== undefined) {
      return await lookAt(
        place,
        "diff",
        points,
        (made) => printRows(request, made, rows, isJson),
        (made) => expectChanged(request, made),
      );
    }
    const look = async (made: readonly ThrowAway[]) => {
      const sides = [sideOf(labels[0], made[0]), sideOf(labels[1], made[1])] as const;
      return {
        a: pointJson(labels[0], made[0]),
        b: pointJson(labels[1], made[1]),
        database,
        schema: pgDump === undefined ? null : await schemaDiff(pgDump, sides, database),
        ...(only === "schema" ? { tables: null, sequences: null } : await diffData(request, made)),
      };
    };
    const comparison = await lookAt(
      place,
      "diff",
      points,
      look,
      only === "schema" ? undefined : (made) => expectChanged(request, made),
    );
    if (isJson) {
      printJson({ ...comparison, schema: comparison.schema?.join("\n") ?? null });
    } else {
      if (comparison.schema !== null) printSchema(comparison.schema, only === undefined);
      if (comparison.tables !== null) printTables(comparison.tables);
      if (comparison.sequences !== null) printSequences(comparison.sequences);
    }
  },
};

/** What to compare, as the user named it. */
interface Request {
  readonly place: Place;
  readonly labels: readonly [string, string];
  readonly database: string;
  /** What may differ, in all databases. Known before the computes start. */
  changed: readonly ChangedRelation[];
  /** Whether the computes fetch that by themselves. */
  fetchesAhead: boolean;
}

/**
 * Finds out what may differ, and lists the pages for the computes that are about to read them.
 * Returns whether there are any, and few enough.
 */
async function expectChanged(request: Request, made: readonly ThrowAway[]): Promise<boolean> {
  const { place: { client, tenant } } = request;
  const { expectPages } = await import("../../control/diff/expected_pages.ts");
  request.changed = await client.changedBlocks(tenant, whereOf(made[0]), whereOf(made[1]), undefined);
  request.fetchesAhead = made.every(({ compute }) => expectPages(compute.paths, request.changed));
  return request.fetchesAhead;
}

/** @throws {ZenithError} `invalid_argument` when more than one of the options is given */
function wantedOnly(options: OptionValues): "schema" | "data" | "rows" | undefined {
  const wanted = (["schema", "data", "rows"] as const).filter((what) => options[what] !== undefined);
  if (wanted.length <= 1) return wanted[0];
  throw new ZenithError(
    "invalid_argument",
    `${wanted.map((what) => `--${what}`).join(" and ")} exclude each other`,
  );
}

/**
 * Finds pg_dump. If there is none and it isn't needed, prints a warning and returns undefined.
 *
 * @throws {ZenithError} `not_found` when it is needed and there is none
 */
async function pgDumpOf(
  { environment, client, tenant }: Place,
  needed: boolean,
): Promise<string | undefined> {
  const major = await client.tenantMajor(tenant);
  try {
    return findPgDump(major, { distribDir: environment.config.pg_distrib_dir });
  } catch (error) {
    if (needed || !(error instanceof ZenithError) || error.kind !== "not_found") throw error;
    process.stderr.write(`zenith: the schema is not compared: ${errorMessage(error)}\nhint: ${error.hint}\n`);
    return undefined;
  }
}

function sideOf(label: string, { compute }: ThrowAway) {
  return { label, compute };
}

function pointJson(label: string, { branch }: ThrowAway) {
  return { point: label, lsn: formatLsn(branch.latest_valid_lsn) };
}

/**
 * Calls `compare` with a session on each side, and with what may have changed: undefined when that
 * is everything.
 */
async function onSides<T>(
  { labels, database, changed, fetchesAhead }: Request,
  made: readonly ThrowAway[],
  compare: (sides: readonly [Side, Side], changed: readonly ChangedRelation[] | undefined) => Promise<T>,
): Promise<T> {
  const [{ Side }, { changedIn }] = await Promise.all([
    import("../../control/diff/side.ts"),
    import("../../control/diff/data.ts"),
  ]);
  await using one = new Side(labels[0], made[0].compute, database, fetchesAhead);
  await using other = new Side(labels[1], made[1].compute, database, fetchesAhead);
  const sides: readonly [Side, Side] = [one, other];
  return await compare(sides, await changedIn(sides, changed));
}

async function diffData(request: Request, made: readonly ThrowAway[]): Promise<DataDiff> {
  const { compareData } = await import("../../control/diff/data.ts");
  return await onSides(request, made, (sides, changed) => compareData(sides, changed));
}

async function printRows(
  request: Request,
  made: readonly ThrowAway[],
  wanted: string,
  isJson: boolean,
): Promise<void> {
  const [{ changedRows }, { jsonPrinter, linePrinter }, { tablesToCompare }] = await Promise.all([
    import("../../control/diff/rows.ts"),
    import("./diff_print.ts"),
    import("../../control/diff/tables.ts"),
  ]);
  await onSides(request, made, async (sides, changed) => {
    const tables = await tablesToCompare(sides, changed, wanted);
    for (const table of tables) {
      for (const note of table.notes) process.stderr.write(`${table.name}: ${note}\n`);
      const printer = isJson ? jsonPrinter(table) : linePrinter(table);
      for await (const change of changedRows(sides, table)) await printer.row(change);
      await printer.end();
    }
    if (tables.length === 0 && isJson) printJson([]);
  });
}

function whereOf({ branch }: ThrowAway) {
  return { timeline: branch.timeline_id, lsn: branch.latest_valid_lsn };
}

const RED = "\x1b[31m";
const GREEN = "\x1b[32m";
const CYAN = "\x1b[36m";
const PLAIN = "\x1b[0m";

function printSchema(lines: readonly string[], withData: boolean): void {
  if (lines.length === 0) print("the schemas are the same");
  for (const line of lines) print(process.stdout.isTTY ? coloured(line) : line);
  if (withData) print("");
}

function coloured(line: string): string {
  const colour = line.startsWith("-") ? RED : line.startsWith("+") ? GREEN : line.startsWith("@") ? CYAN : "";
  return colour === "" ? line : colour + line + PLAIN;
}

function printTables(tables: readonly TableDiff[]): void {
  if (tables.length === 0) return print("all tables have the same rows");
  const rows = tables.map((table) => [
    `${table.schema}.${table.table}`,
    String(table.added_rows),
    String(table.removed_rows),
    String(table.changed_rows),
    table.changed_pages === null ? "all" : String(table.changed_pages),
    table.notes.join("; "),
  ]);
  for (const line of formatTable([["TABLE", "ADDED", "REMOVED", "CHANGED", "PAGES", "NOTES"], ...rows])) {
    print(line);
  }
}

function printSequences(sequences: readonly SequenceDiff[]): void {
  if (sequences.length === 0) return;
  const rows = sequences.map(({ schema, sequence, only_in, before, after }) => [
    `${schema}.${sequence}`,
    only_in === "b" ? "none" : before ?? "unused",
    only_in === "a" ? "none" : after ?? "unused",
  ]);
  print("");
  for (const line of formatTable([["SEQUENCE", "BEFORE", "AFTER"], ...rows])) print(line);
}
