/** `zenith branch diff`: what differs between two branches, or two moments of one. */
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { formatLsn } from "../../common/lsn.ts";
import { type ChangedRelation, PageServerClient } from "../../control/page_server_client.ts";
import { chooseTenant, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { findPgDump } from "../../pg_install/find_pg_dump.ts";
import { type Command, JSON_OPTION, optionText, requiredArg, TENANT_OPTION } from "../cli/command.ts";
import { formatTable, print, printJson } from "../cli/output.ts";
import type { Side } from "./diff_side.ts";
import type { TableToCompare } from "./diff_tables.ts";
import type { RowCounts } from "./diff_rows.ts";
import { schemaDiff } from "./schema_diff.ts";
import { arrivedPoint, lookAt, type Place, type ThrowAway } from "./throw_away.ts";

export const branchDiffCommand: Command = {
  usage: "branch diff <a> <b>",
  description: "Show what differs in schema and rows between two branches, or two moments of one",
  options: [
    TENANT_OPTION,
    { flags: "-d, --db <database>", description: "The database; postgres when left out", values: [] },
    { flags: "--schema", description: "Only the schema, as pg_dump -s writes it" },
    { flags: "--data", description: "Only the tables, with the numbers of rows that differ" },
    JSON_OPTION,
  ],
  completions: ["branch", "branch"],
  examples: [
    ["branch diff main dev", "What dev has otherwise than main"],
    ["branch diff main@-1h main", "What has happened in the last hour"],
    ["branch diff main dev --schema --db shop", "Only the schema, of another database"],
  ],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const database = optionText(options, "db") ?? "postgres";
    const labels = [requiredArg(args, 0), requiredArg(args, 1)] as const;
    const only = options["schema"] === true ? "schema" : options["data"] === true ? "data" : undefined;
    await using client = new PageServerClient(pageServerAddress(environment));
    const place = { environment, client, tenant };
    const pgDump = only === "data" ? undefined : await pgDumpOf(place, only === "schema");
    const points = [await arrivedPoint(place, labels[0]), await arrivedPoint(place, labels[1])];
    const comparison = await lookAt(place, "diff", points, async ([one, other]) => {
      const sides = [sideOf(labels[0], one), sideOf(labels[1], other)] as const;
      return {
        a: pointJson(labels[0], one),
        b: pointJson(labels[1], other),
        database,
        schema: pgDump === undefined ? null : await schemaDiff(pgDump, sides, database),
        tables: only === "schema" ? null : await diffTables(place, labels, [one, other], database),
      };
    });
    if (options["json"] === true) {
      printJson({ ...comparison, schema: comparison.schema?.join("\n") ?? null });
    } else {
      if (comparison.schema !== null) printSchema(comparison.schema, only === undefined);
      if (comparison.tables !== null) printTables(comparison.tables);
    }
  },
};

/**
 * undefined when there is none, which is only said then. @throws {ZenithError} `not_found` when it
 * is needed
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
  return { label, address: compute.address };
}

function pointJson(label: string, { branch }: ThrowAway) {
  return { point: label, lsn: formatLsn(branch.latest_valid_lsn) };
}

/** A table that differs, as programs see it: docs/cli.md describes each key. */
interface TableDiff {
  readonly schema: string;
  readonly table: string;
  readonly only_in: "a" | "b" | null;
  readonly changed_pages: number | null;
  readonly added_rows: number;
  readonly removed_rows: number;
  readonly changed_rows: number;
  readonly notes: readonly string[];
}

async function diffTables(
  { client, tenant }: Place,
  labels: readonly [string, string],
  made: readonly [ThrowAway, ThrowAway],
  database: string,
): Promise<TableDiff[]> {
  const [{ Side }, { commonDatabase, tablesToCompare }, { compareRows }] = await Promise.all([
    import("./diff_side.ts"),
    import("./diff_tables.ts"),
    import("./diff_rows.ts"),
  ]);
  await using one = new Side(labels[0], made[0].compute.address, database);
  await using other = new Side(labels[1], made[1].compute.address, database);
  const sides: readonly [Side, Side] = [one, other];
  const oid = await commonDatabase(sides);
  const changed: ChangedRelation[] | undefined = oid === undefined
    ? undefined
    : await client.changedBlocks(tenant, whereOf(made[0]), whereOf(made[1]), oid);
  const found: TableDiff[] = [];
  for (const table of await tablesToCompare(sides, changed)) {
    const counts = await compareRows(sides, table);
    const isOnOneSide = table.there[0] !== table.there[1];
    if (isOnOneSide || counts.added + counts.removed + counts.changed > 0) {
      found.push(tableDiff(table, counts));
    }
  }
  return found;
}

function whereOf({ branch }: ThrowAway) {
  return { timeline: branch.timeline_id, lsn: branch.latest_valid_lsn };
}

function tableDiff({ schema, table, there, pages, notes }: TableToCompare, counts: RowCounts): TableDiff {
  return {
    schema,
    table,
    only_in: there[0] && there[1] ? null : there[0] ? "a" : "b",
    changed_pages: pages,
    added_rows: counts.added,
    removed_rows: counts.removed,
    changed_rows: counts.changed,
    notes,
  };
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
