/** A plan of `EXPLAIN (FORMAT JSON)` as a tree of what matters in it. */

export interface PlanNode {
  /** `Index Scan using orders_pkey on orders o`. */
  readonly title: string;
  /** Filters, keys, conditions: names and what they are. */
  readonly details: readonly (readonly [name: string, value: string])[];
  readonly plannedRows: number;
  /** All of these are undefined without ANALYZE. Rows are of all loops together. */
  readonly actualRows: number | undefined;
  readonly loops: number | undefined;
  /** In milliseconds of all loops, without what is below it. */
  readonly ownMs: number | undefined;
  readonly cost: number;
  /** The part of the whole that is its own, from 0 to 1: of the time, else of the cost. */
  readonly share: number;
  /** How many times more or fewer rows came than were planned, when that is ten or more. */
  readonly misjudged: number | undefined;
  readonly children: readonly PlanNode[];
}

export interface Plan {
  readonly root: PlanNode;
  /** In milliseconds; undefined without ANALYZE. */
  readonly planningMs: number | undefined;
  readonly executionMs: number | undefined;
}

type Json = Readonly<Record<string, unknown>>;

const DETAILS = [
  "Index Cond",
  "Recheck Cond",
  "Filter",
  "Rows Removed by Filter",
  "Rows Removed by Index Recheck",
  "Join Filter",
  "Rows Removed by Join Filter",
  "Hash Cond",
  "Merge Cond",
  "Sort Key",
  "Sort Method",
  "Sort Space Used",
  "Group Key",
  "Cache Key",
  "TID Cond",
  "Heap Fetches",
  "Workers Planned",
  "Workers Launched",
  "Subplan Name",
  "Function Name",
  "CTE Name",
  "Shared Hit Blocks",
  "Shared Read Blocks",
  "Temp Read Blocks",
  "Temp Written Blocks",
];
/** From this factor on the planner has misjudged. */
const MISJUDGED = 10;

/** @returns undefined for what is no plan */
export function readPlan(text: string): Plan | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const first = Array.isArray(value) ? value[0] as Json | undefined : undefined;
  const plan = first?.["Plan"];
  if (first === undefined || !isObject(plan)) return undefined;
  const isTimed = typeof plan["Actual Total Time"] === "number";
  const whole = isTimed ? totalMs(plan) : number(plan["Total Cost"]) ?? 0;
  return {
    root: node(plan, isTimed, whole),
    planningMs: number(first["Planning Time"]),
    executionMs: number(first["Execution Time"]),
  };
}

function node(plan: Json, isTimed: boolean, whole: number): PlanNode {
  const below = (Array.isArray(plan["Plans"]) ? plan["Plans"] : []).filter(isObject);
  // What an init plan or a subplan takes is in the node that has it as well.
  const sum = (of: (plan: Json) => number) => below.reduce((total, child) => total + of(child), 0);
  const cost = number(plan["Total Cost"]) ?? 0;
  const own = isTimed
    ? Math.max(0, totalMs(plan) - sum(totalMs))
    : Math.max(0, cost - sum((child) => number(child["Total Cost"]) ?? 0));
  const loops = number(plan["Actual Loops"]);
  const actual = number(plan["Actual Rows"]);
  const plannedRows = number(plan["Plan Rows"]) ?? 0;
  return {
    title: titleOf(plan),
    details: DETAILS.flatMap((name) => {
      const value = plan[name];
      if (value === undefined || value === 0) return [];
      return [[name, Array.isArray(value) ? value.join(", ") : String(value)] as const];
    }),
    plannedRows,
    actualRows: actual === undefined ? undefined : actual * (loops ?? 1),
    loops,
    ownMs: isTimed ? own : undefined,
    cost,
    share: whole > 0 ? Math.min(own / whole, 1) : 0,
    misjudged: misjudged(plannedRows, actual, loops),
    children: below.map((child) => node(child, isTimed, whole)),
  };
}

/** Both are of one loop. */
function misjudged(
  planned: number,
  actual: number | undefined,
  loops: number | undefined,
): number | undefined {
  if (actual === undefined || loops === 0) return undefined;
  const [less, more] = [Math.max(Math.min(planned, actual), 1), Math.max(planned, actual, 1)];
  return more / less >= MISJUDGED ? more / less : undefined;
}

function totalMs(plan: Json): number {
  return (number(plan["Actual Total Time"]) ?? 0) * (number(plan["Actual Loops"]) ?? 1);
}

function titleOf(plan: Json): string {
  const text = (key: string) => typeof plan[key] === "string" ? plan[key] : undefined;
  const type = text("Node Type") ?? "?";
  const join = text("Join Type");
  const relation = text("Relation Name");
  const schema = text("Schema");
  const alias = text("Alias");
  const operation = text("Operation");
  const strategy = text("Strategy");
  const name = [
    strategy === "Hashed" && type === "Aggregate"
      ? "Hash Aggregate"
      : type === "ModifyTable"
      ? operation ?? type
      : type,
    join === undefined || join === "Inner" ? undefined : `(${join})`,
    text("Index Name") === undefined ? undefined : `using ${text("Index Name")}`,
    relation === undefined ? undefined : `on ${schema === undefined ? "" : `${schema}.`}${relation}`,
    alias === undefined || alias === relation ? undefined : alias,
  ];
  return name.filter((part) => part !== undefined).join(" ");
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function number(value: unknown): number | undefined {
  return typeof value === "number" ? value : undefined;
}
