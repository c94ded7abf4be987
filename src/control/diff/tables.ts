/** Finds the tables that may differ between two sides, and what to compare in each. */
import { ZenithError } from "../../common/errors.ts";
import type { ChangedRelation } from "../page_server_client.ts";
import type { Side } from "./side.ts";

/** A table as one side has it. */
interface Table {
  readonly oid: string;
  /** Quoted where SQL needs it. */
  readonly name: string;
  readonly schema: string;
  readonly table: string;
  /** Tablespace and file number. */
  readonly file: string;
  readonly isHeap: boolean;
  /** A digest of its columns, to compare with the other side's; empty when it was not requested. */
  readonly columns: string;
}

interface Column {
  readonly name: string;
  readonly quoted: string;
  readonly type: number;
  /** What its values depend on besides the bytes of the row. */
  readonly origin: string;
}

/** A column that both sides have. */
export interface ComparedColumn {
  readonly name: string;
  readonly quoted: string;
  /** The OID of its type. */
  readonly type: number;
}

/** A table that has to be compared. */
export interface TableToCompare {
  /** Quoted where SQL needs it. */
  readonly name: string;
  readonly schema: string;
  readonly table: string;
  /** Which sides have it: the first, the second. */
  readonly there: readonly [boolean, boolean];
  readonly columns: readonly ComparedColumn[];
  /** The columns of the primary key. If there are none, rows are compared as a whole. */
  readonly key: readonly ComparedColumn[];
  /** How many pages may differ; null when the whole table is compared. */
  readonly pages: number | null;
  /** Ranges of blocks to read on both sides; null for all. */
  readonly ranges: readonly number[] | null;
  /** Notes for the user on how the table was compared. */
  readonly notes: readonly string[];
}

/** The OID of pg_attribute, which is also its file number until it is rewritten. */
const PG_ATTRIBUTE = "1249";

/**
 * Looks up the database that both sides are connected to.
 *
 * @returns its OID; undefined when the two differ
 */
export async function commonDatabase(sides: readonly [Side, Side]): Promise<number | undefined> {
  const [one, other] = await onBoth(
    sides,
    (side) => side.rows("SELECT oid::text FROM pg_database WHERE datname = current_database()"),
  );
  return one[0][0] === other[0][0] ? Number(one[0][0]) : undefined;
}

/**
 * Lists tables with rows that may differ, and tables that only one side has, ordered by name.
 *
 * @param changed undefined when everything may have changed
 * @param wanted the only table to compare, as the user named it
 * @throws {ZenithError} `not_found`, `invalid_argument` when the name is ambiguous
 */
export async function tablesToCompare(
  sides: readonly [Side, Side],
  changed: readonly ChangedRelation[] | undefined,
  wanted?: string,
): Promise<TableToCompare[]> {
  const byFile = new Map((changed ?? []).map((relation) => [`${relation.spc}/${relation.rel}`, relation]));
  const attributes = await onBoth(sides, attributeFile);
  const columnsMayDiffer = changed === undefined || attributes[0] !== attributes[1] ||
    byFile.has(attributes[0]);
  const [ones, others] = await onBoth(sides, (side) => listTables(side, columnsMayDiffer));
  const found: TableToCompare[] = [];
  const all = new Map([...ones, ...others]);
  const names = wanted === undefined ? [...all.keys()].sort() : [nameOf(wanted, [...all.values()])];
  for (const name of names) {
    const [one, other] = [ones.get(name), others.get(name)];
    const relation = one === undefined ? undefined : byFile.get(one.file);
    const isRewritten = changed === undefined || one?.file !== other?.file || one?.oid !== other?.oid;
    if (!isRewritten && relation === undefined && one?.columns === other?.columns) continue;
    found.push(await tableToCompare(sides, [one, other], isRewritten, relation));
  }
  return found;
}

/**
 * Finds a table by its name, quoted as in SQL or not. The schema may be left out for a table of
 * public or one that only one schema has.
 */
function nameOf(wanted: string, tables: readonly Table[]): string {
  const isFull = ({ name, schema, table }: Table) => name === wanted || `${schema}.${table}` === wanted;
  const isShort = ({ name, schema, table }: Table) =>
    table === wanted || wanted.startsWith('"') && name === `${schema}.${wanted}`;
  const full = tables.find(isFull);
  if (full !== undefined) return full.name;
  const found = tables.filter(isShort);
  const best = found.find(({ schema }) => schema === "public") ?? found[0];
  if (best === undefined) {
    throw new ZenithError("not_found", `neither side has a table ${wanted}`, {
      hint: '"zenith branch diff" without --rows lists the tables that differ',
    });
  }
  if (found.length === 1 || best.schema === "public") return best.name;
  throw new ZenithError(
    "invalid_argument",
    `more than one schema has a table ${wanted}: ${found.map(({ schema }) => schema).join(", ")}`,
    { hint: `name the schema too, as in ${best.schema}.${wanted}` },
  );
}

async function tableToCompare(
  sides: readonly [Side, Side],
  [one, other]: readonly [Table | undefined, Table | undefined],
  isRewritten: boolean,
  relation: ChangedRelation | undefined,
): Promise<TableToCompare> {
  const { name, schema, table } = (one ?? other)!;
  const there = [one !== undefined, other !== undefined] as const;
  const details = await Promise.all(
    [one, other].map(async (found, i) =>
      found === undefined
        ? undefined
        : { columns: await columnsOf(sides[i], found.oid), key: await keyOf(sides[i], found.oid) }
    ),
  );
  const [first, second] = details;
  const have = (first ?? second)!;
  if (first === undefined || second === undefined) {
    const key = have.columns.filter((column) => have.key.includes(column.name));
    return {
      name,
      schema,
      table,
      there,
      columns: have.columns,
      key,
      pages: null,
      ranges: null,
      notes: [`only at ${sides[first === undefined ? 1 : 0].label}`],
    };
  }
  const columns = second.columns.filter((column) => first.columns.some((old) => old.name === column.name));
  const isSameKey = first.key.join("\0") === second.key.join("\0");
  const key = isSameKey ? columns.filter((column) => first.key.includes(column.name)) : [];
  const originsDiffer = columns.some((column) =>
    first.columns.find((old) => old.name === column.name)!.origin !== column.origin
  );
  const notes: string[] = [];
  const isWhole = isRewritten || originsDiffer || !one!.isHeap || !other!.isHeap;
  if (isRewritten) notes.push("compared as a whole: its file is another (TRUNCATE, VACUUM FULL, …)");
  else if (isWhole) notes.push("compared as a whole");
  if (columns.length < Math.max(first.columns.length, second.columns.length)) {
    notes.push("its columns differ: compared by those that both have");
  }
  if (key.length === 0) notes.push("no primary key: a changed row is one removed and one added");
  const [pages, ranges] = isWhole ? [null, null] : [relation?.pages ?? 0, relation?.ranges ?? []];
  return { name, schema, table, there, columns, key, pages, ranges, notes };
}

/**
 * pg_largeobject and pg_largeobject_metadata: large objects are data, though their tables are
 * PostgreSQL's own.
 */
const LARGE_OBJECT_TABLES = "2613, 2995";

/**
 * Lists tables whose rows are on disk and in the WAL, in every schema but PostgreSQL's own, and
 * those of large objects.
 */
async function listTables(side: Side, withColumns: boolean): Promise<Map<string, Table>> {
  const columns = withColumns
    ? `coalesce((SELECT md5(string_agg(${COLUMN}, E'\\n' ORDER BY a.attnum)) FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '')`
    : "''";
  const rows = await side.rows(
    `SELECT c.oid::text, quote_ident(n.nspname) || '.' || quote_ident(c.relname), n.nspname, c.relname,
            ${FILE}, coalesce(am.amname = 'heap', false)::text, ${columns}
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_am am ON am.oid = c.relam
      WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p'
        AND (n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
             OR c.oid IN (${LARGE_OBJECT_TABLES}))`,
  );
  return new Map(
    rows.map(([oid, name, schema, table, file, isHeap, columns]) => [name!, {
      oid: oid!,
      name: name!,
      schema: schema!,
      table: table!,
      file: file!,
      isHeap: isHeap === "true",
      columns: columns!,
    }]),
  );
}

/**
 * The tablespace and file number of `c`. reltablespace is 0 in the database's default tablespace.
 */
export const FILE = `CASE WHEN c.reltablespace <> 0 THEN c.reltablespace
  ELSE (SELECT dattablespace FROM pg_database WHERE datname = current_database()) END
  || '/' || pg_relation_filenode(c.oid)`;

/** A column's position in the row, and its value in rows that lack it. */
const ORIGIN = `a.attnum || ' ' || coalesce(a.attmissingval::text, '') || ' ' || a.attgenerated::text
  || ' ' || CASE WHEN a.attgenerated = '' THEN '' ELSE coalesce(
    (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum), '')
  END`;
const COLUMN = `a.attname || ' ' || a.atttypid || ' ' || ${ORIGIN}`;

async function attributeFile(side: Side): Promise<string> {
  const rows = await side.rows(`SELECT ${FILE} FROM pg_class c WHERE c.oid = ${PG_ATTRIBUTE}`);
  return rows[0][0]!;
}

async function columnsOf(side: Side, oid: string): Promise<Column[]> {
  const rows = await side.rows(
    `SELECT a.attname, quote_ident(a.attname), a.atttypid::text, ${ORIGIN} FROM pg_attribute a
      WHERE a.attrelid = ${oid} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`,
  );
  return rows.map(([name, quoted, type, origin]) => ({
    name: name!,
    quoted: quoted!,
    type: Number(type),
    origin: origin!,
  }));
}

async function keyOf(side: Side, oid: string): Promise<string[]> {
  const rows = await side.rows(
    `SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey::int2[])
      WHERE i.indrelid = ${oid} AND i.indisprimary AND i.indisvalid ORDER BY a.attname`,
  );
  return rows.map(([name]) => name!);
}

/** Queries both sides at once. */
export async function onBoth<T>(
  [one, other]: readonly [Side, Side],
  ask: (side: Side) => Promise<T>,
): Promise<[T, T]> {
  return await Promise.all([ask(one), ask(other)]);
}
