/**
 * What differs between two moments of a tenant's branches: as `zenith branch diff` says it, read by
 * computes that look at these moments. They stay awake for the next question.
 */
import { parseBranchName, type TenantId } from "../../common/id.ts";
import { formatLsn } from "../../common/lsn.ts";
import { changedBetween, compareData, type DataDiff } from "../../control/diff/data.ts";
import { changedRows, type RowChange } from "../../control/diff/rows.ts";
import { schemaDiff } from "../../control/diff/schema.ts";
import { Side } from "../../control/diff/side.ts";
import { tablesToCompare, type TableToCompare } from "../../control/diff/tables.ts";
import { findPast, type Past } from "../../control/moments.ts";
import type { ChangedRelation } from "../../control/page_server_client.ts";
import { findPgDump } from "../../pg_install/find_pg_dump.ts";
import type { Held } from "../fleet/fleet.ts";
import { parsePoint } from "./branches.ts";
import { withPageServer, type WorkContext } from "./context.ts";

export interface DiffRequest {
  readonly tenant: TenantId;
  /** `main`, `main@-5m`, and so on. */
  readonly from: string;
  readonly to: string;
  readonly database: string;
  /** Aborted when nobody waits for the answer any more. */
  readonly signal: AbortSignal;
}

/** The two points of a request, as they were found. */
type Points = readonly [Past, Past];

interface Found {
  readonly points: Points;
}

export async function diffSchema(
  context: WorkContext,
  request: DiffRequest,
): Promise<Found & { readonly lines: string[] }> {
  const { tenant, database, from, to } = request;
  const major = await withPageServer(context, (client) => client.tenantMajor(tenant));
  const pgDump = findPgDump(major, { distribDir: context.environment().config.pg_distrib_dir });
  return await lookAt(context, request, async (points, [one, other]) => {
    const sides = [{ label: from, compute: one.compute }, { label: to, compute: other.compute }] as const;
    return { points, lines: await schemaDiff(pgDump, sides, database) };
  });
}

export async function diffTables(
  context: WorkContext,
  request: DiffRequest,
): Promise<Found & DataDiff> {
  return await onSides(context, request, async (points, sides, changed) => ({
    points,
    ...await compareData(sides, changed, request.signal),
  }));
}

/** Longer values are cut. */
const VALUE_MAX_LENGTH = 500;

export interface RowsDiff extends Found {
  /** Undefined when nothing of the table can have changed. */
  readonly table: TableToCompare | undefined;
  readonly rows: readonly RowChange[];
  readonly hasMore: boolean;
}

/** @param limit how many rows at most; they come in no particular order */
export async function diffRows(
  context: WorkContext,
  request: DiffRequest,
  wanted: string,
  limit: number,
): Promise<RowsDiff> {
  return await onSides(context, request, async (points, sides, changed) => {
    const [table] = await tablesToCompare(sides, changed, wanted);
    const rows: RowChange[] = [];
    if (table === undefined) return { points, table, rows, hasMore: false };
    const options = { valueMaxLength: VALUE_MAX_LENGTH + 1, signal: request.signal };
    for await (const { before, after } of changedRows(sides, table, options)) {
      if (rows.length === limit) return { points, table, rows, hasMore: true };
      rows.push({ before: before?.map(shorten) ?? null, after: after?.map(shorten) ?? null });
    }
    return { points, table, rows, hasMore: false };
  });
}

function shorten(value: string | null): string | null {
  // Postgres has cut it by characters, of which a string may have two units.
  const characters = value === null || value.length <= VALUE_MAX_LENGTH ? [] : [...value];
  return characters.length > VALUE_MAX_LENGTH ? `${characters.slice(0, VALUE_MAX_LENGTH).join("")}…` : value;
}

async function onSides<T>(
  context: WorkContext,
  request: DiffRequest,
  work: (
    points: Points,
    sides: readonly [Side, Side],
    changed: readonly ChangedRelation[] | undefined,
  ) => Promise<T>,
): Promise<T> {
  const { tenant, from, to, database } = request;
  return await lookAt(context, request, async (points, [a, b]) => {
    await using one = new Side(from, a.compute, database);
    await using other = new Side(to, b.compute, database);
    const sides: readonly [Side, Side] = [one, other];
    const where = points.map(({ branch, lsn }) => ({ timeline: branch.timeline_id, lsn }));
    const changed = await withPageServer(
      context,
      (client) => changedBetween(client, tenant, sides, [where[0]!, where[1]!]),
    );
    request.signal.throwIfAborted();
    return await work(points, sides, changed);
  });
}

/** Wakes a compute at each of the two moments, and lets them go afterwards. */
async function lookAt<T>(
  context: WorkContext,
  { tenant, from, to }: DiffRequest,
  work: (points: Points, computes: readonly [Held, Held]) => Promise<T>,
): Promise<T> {
  const points = await withPageServer(context, async (client): Promise<Points> => {
    const find = async (text: string): Promise<Past> => {
      const { name, moment } = parsePoint(context, tenant, text);
      return await findPast(client, tenant, parseBranchName(name), moment);
    };
    return [await find(from), await find(to)];
  });
  const hold = ({ branch, lsn }: Past) =>
    context.fleet.hold(tenant, parseBranchName(branch.name), { kind: "lsn", lsn });
  const waking = await Promise.allSettled(points.map(hold));
  using held = new DisposableStack();
  for (const result of waking) if (result.status === "fulfilled") held.use(result.value);
  const failed = waking.find((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
  const computes = waking.map((result) => (result as PromiseFulfilledResult<Held>).value);
  return await work(points, [computes[0]!, computes[1]!]);
}

/** A point as it was found, so that the next question is about the same one. */
export function pointView({ branch, lsn }: Past) {
  return { branch: branch.name, timeline_id: branch.timeline_id, lsn: formatLsn(lsn) };
}
