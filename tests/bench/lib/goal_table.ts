/** A table with a goal in each row, as Markdown, to be put into docs/benchmarks.md as it is. */

export interface GoalRow {
  readonly what: string;
  /** What the issue asks for. */
  readonly goal: string;
  /** By system, ours first. */
  readonly figures: ReadonlyMap<string, number>;
  /** The system that ours is compared with; the best of the others when left out. */
  readonly reference?: string | undefined;
}

/** What is printed for a system that has no such figure. */
const NONE = "-";

/**
 * Columns: what, goal, each system of any row in the order of their first appearance, and ours against
 * the reference.
 */
export function markdownTable(rows: readonly GoalRow[]): string {
  const systems = [...new Set(rows.flatMap(({ figures }) => [...figures.keys()]))];
  const header = ["", "goal", ...systems, "against the reference, else the best"];
  const lines = rows.map(({ what, goal, figures, reference }) => {
    const [own, ...others] = [...figures.values()];
    const compared = figures.get(reference ?? "") ?? Math.min(...others);
    const ratio = own === undefined || others.length === 0 ? NONE : rounded(own / compared);
    return [what, goal, ...systems.map((system) => rounded(figures.get(system))), ratio];
  });
  return [header, header.map(() => "---"), ...lines].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

function rounded(figure: number | undefined): string {
  return figure === undefined ? NONE : String(Number(figure.toPrecision(3)));
}
