/**
 * Finds the rows of a table that differ. Both sides sort their rows by a hash of the key and are
 * merged as they are read, so neither has to be held in memory.
 */
import { type Row, SESSIONS, type Side } from "./side.ts";
import type { TableToCompare } from "./tables.ts";

/** Values of {@link TableToCompare.columns}, as text. */
export interface RowChange {
  /** Null for a row that was added. */
  readonly before: Row | null;
  /** Null for a row that was removed. */
  readonly after: Row | null;
}

export interface RowCounts {
  readonly added: number;
  readonly removed: number;
  readonly changed: number;
}

interface RowsOptions {
  /** Longer values end there; undefined for values as they are. In characters. */
  readonly valueMaxLength?: number;
  /** Ends the comparison. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Counts the rows that differ. The servers send no values.
 *
 * @throws {ZenithError} as {@link Side.stream}
 */
export async function countRows(
  sides: readonly [Side, Side],
  table: TableToCompare,
  signal?: AbortSignal,
): Promise<RowCounts> {
  const counts = { added: 0, removed: 0, changed: 0 };
  for await (const { before, after } of compare(sides, table, rowHashes(table), signal)) {
    counts[before === null ? "added" : after === null ? "removed" : "changed"]++;
  }
  return counts;
}

/**
 * The rows that differ, in the order of their hashes.
 *
 * @throws {ZenithError} as {@link Side.stream}
 */
export async function* changedRows(
  sides: readonly [Side, Side],
  table: TableToCompare,
  { valueMaxLength, signal }: RowsOptions = {},
): AsyncGenerator<RowChange> {
  const values = table.columns.map(({ quoted }, i) => {
    const text = `t.${quoted}::text`;
    return `${valueMaxLength === undefined ? text : `pg_catalog.left(${text}, ${valueMaxLength})`} AS v${i}`;
  });
  yield* compare(sides, table, [...rowHashes(table), ...values], signal);
}

async function* compare(
  sides: readonly [Side, Side],
  table: TableToCompare,
  selected: readonly string[],
  signal: AbortSignal | undefined,
): AsyncGenerator<RowChange> {
  await readAhead(sides, table);
  const [one, other] = sides.map((side, i) =>
    table.there[i] ? side.stream(...query(table, selected)) : nothing()
  );
  try {
    // Each side sorts its rows before it sends the first one, so both begin at once.
    let [x, y] = await Promise.all([next(one), next(other)]);
    while (x !== undefined || y !== undefined) {
      signal?.throwIfAborted();
      const order = x === undefined ? 1 : y === undefined ? -1 : compareText(x[KEY]!, y[KEY]!);
      const isSame = order === 0 && x![ROW] === y![ROW];
      if (!isSame) {
        yield {
          before: order > 0 ? null : x!.slice(VALUES),
          after: order < 0 ? null : y!.slice(VALUES),
        };
      }
      if (order <= 0) x = await next(one);
      if (order >= 0) y = await next(other);
    }
  } finally {
    // Whoever has seen enough closes the cursors.
    await Promise.all([one.return(undefined), other.return(undefined)]);
  }
}

/** The places in what a side sends. */
const KEY = 0;
const ROW = 1;
const VALUES = 2;

/** Without a key, the whole row is the key, so rows with the same hash are equal. */
function rowHashes({ columns, key }: TableToCompare): string[] {
  const hash = (of: TableToCompare["columns"]) =>
    `md5(ROW(${of.map(({ quoted }) => `t.${quoted}`).join(", ")})::text)`;
  const row = hash(columns);
  return [`${key.length === 0 ? row : hash(key)} AS k`, `${row} AS r`];
}

/** Builds the query for a table, and its parameters. */
function query({ name, ranges }: TableToCompare, columns: readonly string[]): [string, string[]] {
  const selected = columns.join(", ");
  const order = 'ORDER BY x.k COLLATE "C"';
  if (ranges === null) return [`SELECT x.* FROM (SELECT ${selected} FROM ONLY ${name} t) x ${order}`, []];
  return [`SELECT x.* FROM ${inRanges(name, selected)} ${order}`, tidParams(ranges)];
}

/**
 * The rows of ranges of blocks, as `x`. Its parameters are {@link tidParams}. OFFSET 0 keeps the
 * planner from flattening the inner query, which then scans one range of TIDs at a time.
 */
function inRanges(name: string, selected: string): string {
  return `unnest($1::text::tid[], $2::text::tid[]) AS range(first, behind)
    CROSS JOIN LATERAL (SELECT ${selected} FROM ONLY ${name} t
      WHERE t.ctid >= range.first AND t.ctid < range.behind OFFSET 0) x`;
}

/** The first TIDs of the ranges, and those behind their last. */
function tidParams(ranges: readonly number[]): string[] {
  const places = (blocks: readonly number[]) => `{${blocks.map((block) => `"(${block},0)"`).join(",")}}`;
  return [0, 1].map((end) => places(ranges.filter((_, i) => i % 2 === end)));
}

/** With fewer ranges than this for each session, its start would cost more than it saves. */
const RANGES_PER_SESSION = 50;

/**
 * Reads the pages of the ranges, so that the query finds them. One session waits for each page, on
 * its way through the supervisor to the page server and back, before it asks for the next; several
 * wait at the same time. Where the compute fetches them by itself, they come in larger numbers.
 */
async function readAhead(
  sides: readonly [Side, Side],
  { name, there, ranges }: TableToCompare,
): Promise<void> {
  const waiting = sides.filter((side, i) => there[i] && !side.fetchesAhead);
  if (ranges === null || waiting.length === 0) return;
  const count = ranges.length / 2;
  const sessions = Math.min(SESSIONS, Math.floor(count / RANGES_PER_SESSION));
  if (sessions < 2) return;
  const share = 2 * Math.ceil(count / sessions);
  const shares = Array.from({ length: sessions }, (_, i) => ranges.slice(i * share, (i + 1) * share));
  const text = `SELECT count(*)::text FROM ${inRanges(name, "")}`;
  await Promise.all(
    waiting.flatMap((side) => shares.map((share) => side.rows(text, tidParams(share)))),
  );
}

async function next(rows: AsyncGenerator<Row>): Promise<Row | undefined> {
  const result = await rows.next();
  return result.done === true ? undefined : result.value;
}

/** Compares hexadecimal digits in the order of the "C" collation. */
function compareText(x: string, y: string): number {
  return x < y ? -1 : x > y ? 1 : 0;
}

async function* nothing(): AsyncGenerator<Row> {}
