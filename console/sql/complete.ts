/** What may come next in a statement: names of tables and columns, then words of SQL. */

export interface CatalogTable {
  /** That which a name is written with; for what is PostgreSQL's own, `public`. */
  readonly schema: string;
  readonly name: string;
  /** Whether it is PostgreSQL's own. */
  readonly isSystem?: boolean;
  readonly columns: readonly { readonly name: string; readonly type: string }[];
}

export type Catalog = readonly CatalogTable[];

export interface Completion {
  /** What replaces the word. */
  readonly text: string;
  /** What it is: a column's type, a table's schema. */
  readonly about: string;
  readonly kind: "table" | "column" | "word";
}

export interface Completions {
  /** Where the word begins that is replaced; it ends at the caret. */
  readonly from: number;
  readonly items: readonly Completion[];
}

const SHOWN_MAX = 30;

const WORDS = (
  "SELECT FROM WHERE GROUP BY HAVING ORDER BY LIMIT OFFSET INSERT INTO VALUES UPDATE SET DELETE RETURNING JOIN LEFT JOIN " +
  "RIGHT JOIN FULL JOIN CROSS JOIN LATERAL ON USING UNION ALL EXCEPT INTERSECT WITH RECURSIVE DISTINCT CASE WHEN THEN ELSE " +
  "END AND OR NOT IN EXISTS BETWEEN LIKE ILIKE IS NULL ASC DESC COUNT SUM AVG MIN MAX COALESCE CREATE TABLE INDEX VIEW ALTER " +
  "DROP TRUNCATE EXPLAIN ANALYZE VACUUM"
).split(" ").filter((word, i, all) => all.indexOf(word) === i);

/** A name as SQL needs it: quoted, unless it is plain. */
export function quoteName(name: string): string {
  return /^[a-z_][a-z0-9_$]*$/.test(name) && !RESERVED.has(name) ? name : `"${name.replaceAll('"', '""')}"`;
}

/** Those of PostgreSQL's reserved words that people name tables and columns after. */
const RESERVED = new Set(
  "all and any array as asc both case cast check collate column constraint create default desc distinct do else end except false for foreign from grant group having in into is join leading left like limit not null offset on only or order primary references right select session_user some table then to trailing true union unique user using when where window with"
    .split(" "),
);

/**
 * @param caret in UTF-16 units of `text`
 * @returns undefined where nothing can be completed: in strings, comments and numbers
 */
export function complete(text: string, caret: number, catalog: Catalog): Completions | undefined {
  const before = text.slice(0, caret);
  if (isInLiteral(before)) return undefined;
  const [, owner, word = ""] = /(?:([\w$]+|"(?:[^"]|"")+")\.)?([\w$]*|"[^"]*)$/.exec(before) ?? [];
  if (/^\d/.test(word)) return undefined;
  const from = caret - word.length;
  const wanted = word.replace(/^"/, "").toLowerCase();
  const named = tablesOf(text, catalog);
  if (owner !== undefined) {
    const name = unquote(owner);
    const table = named.get(name) ?? catalog.find((table) => table.name === name);
    const inSchema = catalog.filter(({ schema }) => schema === name).map((table): Completion => ({
      ...tableItem(table),
      text: quoteName(table.name),
    }));
    return found(from, wanted, table === undefined ? inSchema : columnItems([table]));
  }
  const head = before.slice(0, from).trimEnd();
  if (/\b(from|join|update|into|table|only)$/i.test(head) || /\bfrom\b[^()]*,$/i.test(head)) {
    return found(from, wanted, catalog.map(tableItem));
  }
  // Without the beginning of a word, everything would be offered everywhere.
  if (word === "") return found(from, wanted, columnItems([...new Set(named.values())]));
  return found(from, wanted, [
    ...columnItems([...new Set(named.values())]),
    ...catalog.map(tableItem),
    ...WORDS.map((text): Completion => ({ text, about: "", kind: "word" })),
  ]);
}

function found(from: number, wanted: string, all: readonly Completion[]): Completions | undefined {
  const bare = ({ text }: Completion) => text.replaceAll('"', "").toLowerCase();
  const begins = all.filter((item) => bare(item).startsWith(wanted));
  const has = wanted.length < 2
    ? []
    : all.filter((item) =>
      item.kind !== "word" && !bare(item).startsWith(wanted) && bare(item).includes(wanted)
    );
  const items = [...begins, ...has].slice(0, SHOWN_MAX);
  // What is there already is nothing to offer.
  if (items.length === 0 || items.length === 1 && bare(items[0]!) === wanted) return undefined;
  return { from, items };
}

function tableItem({ schema, name }: CatalogTable): Completion {
  const text = schema === "public" ? quoteName(name) : `${quoteName(schema)}.${quoteName(name)}`;
  return { text, about: schema, kind: "table" };
}

function columnItems(tables: readonly CatalogTable[]): Completion[] {
  const items = tables.flatMap(({ name, columns }) =>
    columns.map((column): Completion => ({
      text: quoteName(column.name),
      about: tables.length > 1 ? `${name}, ${column.type}` : column.type,
      kind: "column",
    }))
  );
  return items.filter(({ text }, i) => items.findIndex((other) => other.text === text) === i);
}

/** Words that are no alias, though they follow a table. */
const AFTER_TABLE =
  "(?:from|join|left|right|full|inner|cross|natural|on|using|where|group|order|having|limit|offset|set|values|returning|union|except|intersect|window|for|fetch|tablesample|as)";

/** The tables that a statement names, by their names and aliases. */
function tablesOf(text: string, catalog: Catalog): Map<string, CatalogTable> {
  const named = new Map<string, CatalogTable>();
  const name = String.raw`(?:[\w$]+|"(?:[^"]|"")+")`;
  const pattern = new RegExp(
    String
      .raw`(?:\b(?:from|join|update|into)|,)\s+(?:only\s+)?(?:(${name})\.)?(${name})(?:\s+(?:as\s+)?(?!${AFTER_TABLE}\b)(${name}))?`,
    "gi",
  );
  for (const [, schema, table, alias] of text.matchAll(pattern)) {
    const wanted = unquote(table!);
    const candidates = catalog.filter((known) =>
      known.name === wanted && (schema === undefined || known.schema === unquote(schema))
    );
    const found = candidates.find((known) => known.schema === "public") ?? candidates[0];
    if (found === undefined) continue;
    named.set(found.name, found);
    if (alias !== undefined) named.set(unquote(alias), found);
  }
  return named;
}

function unquote(name: string): string {
  return name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name.toLowerCase();
}

/** Whether the end of a text lies in a string, a dollar-quoted one, or a comment. */
function isInLiteral(text: string): boolean {
  const pattern = /'(?:[^']|'')*'|--[^\n]*\n|\/\*[\s\S]*?\*\/|\$(\w*)\$[\s\S]*?\$\1\$|"(?:[^"]|"")*"/g;
  return /'|--|\/\*|\$\w*\$/.test(text.replace(pattern, " "));
}
