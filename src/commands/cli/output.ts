/** Prints the output of commands: results on standard output, progress on standard error. */
import { formatLsn } from "../../common/lsn.ts";
import type { BranchInfo } from "../../control/page_server_client.ts";
import type { OptionValues } from "./command.ts";

let lines: { write(text: string): unknown } = process.stdout;

export function print(line: string): void {
  lines.write(line + "\n");
}

/** From now on lines for people go to standard error: standard output gets JSON alone. */
export function reserveOutputForJson(): void {
  lines = process.stderr;
}

/** How long a step may take before it is announced. */
const SILENT_MS = 1_000;

/** Shows what a step is doing, once it takes longer than a second. */
export class Progress implements Disposable {
  #text: string;
  #shown = "";
  readonly #timer: NodeJS.Timeout;
  #visible = false;

  constructor(text: string) {
    this.#text = text;
    this.#timer = setTimeout(() => {
      this.#visible = true;
      this.#show();
    }, SILENT_MS);
  }

  update(text: string): void {
    this.#text = text;
    if (this.#visible) this.#show();
  }

  #show(): void {
    if (this.#text === this.#shown) return;
    this.#shown = this.#text;
    // On a terminal the line is replaced; a log file gets one line per step.
    process.stderr.write(process.stderr.isTTY ? `\r\x1b[K${this.#text} …` : `${this.#text} …\n`);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    if (this.#visible && process.stderr.isTTY) process.stderr.write("\r\x1b[K");
  }
}

/** A column of a list. */
export interface Column<T> {
  readonly title: string;
  cell(item: T): string;
}

/**
 * The only way to print a list: a table with a line of titles, or with `--json` an array with one
 * object per item.
 *
 * @param json converts an item for programs: LSNs as text, sizes in bytes, null for unknown values
 */
export function printList<T>(
  items: readonly T[],
  columns: readonly Column<T>[],
  json: (item: T) => Readonly<Record<string, unknown>>,
  options: OptionValues,
): void {
  if (options["json"] === true) {
    printJson(items.map(json));
    return;
  }
  const rows = items.map((item) => columns.map((column) => column.cell(item)));
  for (const line of formatTable([columns.map(({ title }) => title), ...rows])) print(line);
}

export function printJson(value: unknown): void {
  process.stdout.write(JSON.stringify(value, null, 2) + "\n");
}

const SIZE_UNITS = ["KiB", "MiB", "GiB", "TiB"] as const;

/** Formats a size as `812 B` or `1.5 MiB`, an unknown one as `?`. */
export function formatBytes(bytes: number | null | undefined): string {
  if (bytes === null || bytes === undefined) return "?";
  if (bytes < 1024) return `${bytes} B`;
  let value = bytes / 1024;
  let unit = 0;
  for (; value >= 1023.95 && unit < SIZE_UNITS.length - 1; unit++) value /= 1024;
  return `${value.toFixed(1)} ${SIZE_UNITS[unit]}`;
}

/** Makes each column as wide as its widest cell, with two spaces between columns. */
export function formatTable(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, i) => widths[i] = Math.max(widths[i] ?? 0, cell.length));
  }
  return rows.map((row) => row.map((cell, i) => cell.padEnd(widths[i])).join("  ").trimEnd());
}

/**
 * Formats a tenant's branches as a tree: each branch is below its ancestor, with the LSN where it
 * branched off.
 */
export function formatBranchTree(branches: readonly BranchInfo[]): string[] {
  const byTimeline = new Map(branches.map((branch) => [branch.timeline_id, branch]));
  const children = new Map<BranchInfo | undefined, BranchInfo[]>();
  for (const branch of branches) {
    const parent = branch.ancestor_id === null ? undefined : byTimeline.get(branch.ancestor_id);
    const siblings = children.get(parent);
    if (siblings === undefined) children.set(parent, [branch]);
    else siblings.push(branch);
  }
  const lines: string[] = [];
  const below = (parent: BranchInfo | undefined): BranchInfo[] =>
    (children.get(parent) ?? []).sort((a, b) =>
      (a.ancestor_lsn ?? 0) - (b.ancestor_lsn ?? 0) || (a.name < b.name ? -1 : 1)
    );
  const walk = (branch: BranchInfo, indent: string): void => {
    const children = below(branch);
    children.forEach((child, i) => {
      const last = i === children.length - 1;
      const at = child.ancestor_lsn === null ? "" : `@${formatLsn(child.ancestor_lsn)}: `;
      lines.push(`${indent}${last ? "┗━" : "┣━"} ${at}${child.name}`);
      walk(child, `${indent}${last ? "   " : "┃  "}`);
    });
  };
  for (const root of below(undefined)) {
    lines.push(root.name);
    walk(root, "");
  }
  return lines;
}
