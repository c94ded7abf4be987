/** Compares the tables and sequences of two sides. */
import type { TenantId, TimelineId } from "../../common/id.ts";
import type { Lsn } from "../../common/lsn.ts";
import type { ChangedRelation, PageServerClient } from "../page_server_client.ts";
import { countRows, type RowCounts } from "./rows.ts";
import { diffSequences, type SequenceDiff } from "./sequences.ts";
import type { Side } from "./side.ts";
import { commonDatabase, tablesToCompare, type TableToCompare } from "./tables.ts";

/** The JSON of a table that differs: docs/cli.md describes each key. */
export interface TableDiff {
  readonly schema: string;
  readonly table: string;
  readonly only_in: "a" | "b" | null;
  readonly changed_pages: number | null;
  readonly added_rows: number;
  readonly removed_rows: number;
  readonly changed_rows: number;
  readonly notes: readonly string[];
}

export interface DataDiff {
  readonly tables: TableDiff[];
  readonly sequences: SequenceDiff[];
}

/** A point of a tenant's history. */
interface Where {
  readonly timeline: TimelineId;
  readonly lsn: Lsn;
}

/** What may have changed between two points; undefined when that may be everything. */
export async function changedBetween(
  client: PageServerClient,
  tenant: TenantId,
  sides: readonly [Side, Side],
  [one, other]: readonly [Where, Where],
): Promise<readonly ChangedRelation[] | undefined> {
  const oid = await commonDatabase(sides);
  return oid === undefined ? undefined : await client.changedBlocks(tenant, one, other, oid);
}

/** What of `changed`, which is of all databases, may have changed in the one of the two sides. */
export async function changedIn(
  sides: readonly [Side, Side],
  changed: readonly ChangedRelation[],
): Promise<readonly ChangedRelation[] | undefined> {
  const oid = await commonDatabase(sides);
  return oid === undefined ? undefined : changed.filter(({ db }) => db === oid);
}

/**
 * @param changed as {@link changedBetween} or {@link changedIn} returns it
 * @throws {ZenithError} as {@link Side.stream}
 */
export async function compareData(
  sides: readonly [Side, Side],
  changed: readonly ChangedRelation[] | undefined,
  signal?: AbortSignal,
): Promise<DataDiff> {
  const tables: TableDiff[] = [];
  for (const table of await tablesToCompare(sides, changed)) {
    const counts = await countRows(sides, table, signal);
    const isOnOneSide = table.there[0] !== table.there[1];
    if (isOnOneSide || counts.added + counts.removed + counts.changed > 0) {
      tables.push(tableDiff(table, counts));
    }
  }
  return { tables, sequences: await diffSequences(sides, changed) };
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
