/** Prints the rows that differ, one at a time: as lines for users, as a JSON array for programs. */
import { once } from "node:events";
import { jsonValue } from "../pg/run_sql.ts";
import type { RowChange } from "../../control/diff/rows.ts";
import type { Row } from "../../control/diff/side.ts";
import type { ComparedColumn, TableToCompare } from "../../control/diff/tables.ts";

export interface RowPrinter {
  row(change: RowChange): Promise<void>;
  end(): Promise<void>;
}

/** Prints `+ id=7 v='new'`, `- id=8 v=NULL` or `~ id=9 v='old' -> 'new'`, with the key first. */
export function linePrinter({ columns, key }: TableToCompare): RowPrinter {
  const keyFirst = [...key, ...columns.filter((column) => !key.includes(column))];
  const places = keyFirst.map((column) => columns.indexOf(column));
  const keyPlaces = new Set(key.map((column) => columns.indexOf(column)));
  const shown = (row: Row, place: number) => `${columns[place].quoted}=${text(row[place])}`;
  return {
    async row({ before, after }) {
      const parts: string[] = [];
      for (const place of places) {
        if (before === null || after === null) parts.push(shown((before ?? after)!, place));
        else if (keyPlaces.has(place)) parts.push(shown(after, place));
        else if (before[place] !== after[place]) {
          parts.push(`${shown(before, place)} -> ${text(after[place])}`);
        }
      }
      const sign = before === null ? "+" : after === null ? "-" : "~";
      await write([sign, ...parts].join(" ") + "\n");
    },
    end: () => Promise.resolve(),
  };
}

/** Formats a value as an SQL literal, on one line. */
function text(value: string | null): string {
  if (value === null) return "NULL";
  return /^-?\d+(\.\d+)?$/.test(value) ? value : `'${value.replaceAll("'", "''").replaceAll("\n", "↵")}'`;
}

/** Prints a JSON array. docs/cli.md describes each key. */
export function jsonPrinter({ columns, key }: TableToCompare): RowPrinter {
  const object = (row: Row | null, of: readonly ComparedColumn[]) =>
    row === null ? null : Object.fromEntries(of.map((column) => [
      column.name,
      jsonValue(row[columns.indexOf(column)], column.type),
    ]));
  let rows = 0;
  return {
    async row({ before, after }) {
      const change = before === null ? "added" : after === null ? "removed" : "changed";
      const item = {
        change,
        key: key.length === 0 ? null : object(before ?? after, key),
        before: object(before, columns),
        after: object(after, columns),
      };
      await write(`${rows++ === 0 ? "[" : ","}\n  ${JSON.stringify(item)}`);
    },
    end: () => write(rows === 0 ? "[]\n" : "\n]\n"),
  };
}

/** Writes to standard output; waits if the reader is slower. */
async function write(piece: string): Promise<void> {
  if (!process.stdout.write(piece)) await once(process.stdout, "drain");
}
