/**
 * Answers the query of psql's `\gdesc`. psql asks for a statement's columns and then has the server
 * translate their type OIDs into names, with a query over literals (bin/psql/common.c
 * DescribeQuery). Zenith's servers know no SQL, so this module answers that one query.
 */
import { type Column, typeNameOfOid } from "./column.ts";

const QUERY_START =
  /^SELECT name AS "([^"]+)", pg_catalog\.format_type\(tp, tpm\) AS "([^"]+)"\s+FROM \(VALUES /;
const LITERAL_ROW = /\('((?:[^']|'')*)',\s*'(\d{1,10})'::pg_catalog\.oid,\s*-?\d+\)/g;

/** @returns undefined when `sql` is any other query */
export function answerDescribeQuery(
  sql: string,
): { columns: readonly Column[]; rows: readonly (readonly string[])[] } | undefined {
  const start = QUERY_START.exec(sql);
  if (start === null) return undefined;
  const rows: string[][] = [];
  for (const [, name, oid] of sql.slice(start[0].length).matchAll(LITERAL_ROW)) {
    rows.push([name.replaceAll("''", "'"), typeNameOfOid(Number(oid))]);
  }
  return { columns: [{ name: start[1], type: "text" }, { name: start[2], type: "text" }], rows };
}
