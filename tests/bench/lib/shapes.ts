/**
 * BranchBench's micro measurements (arXiv 2604.17180, section 3.2): a tree of branches grows to a certain number, and then the
 * newest of them is used. What an operation costs should depend neither on the tree's shape nor on its size.
 */
import { percentile } from "../harness.ts";
import { type BranchingSystem, ROOT_BRANCH } from "./branching_systems.ts";

export interface Shape {
  readonly name: string;
  /** The index of the i-th branch's parent; -1 is the root. */
  parent(i: number): number;
}

const BUSHY_FANOUT = 3;

export const SHAPES: readonly Shape[] = [
  { name: "spine", parent: (i) => i - 1 },
  { name: "bushy", parent: (i) => Math.floor(i / BUSHY_FANOUT) - 1 },
  { name: "fan-out", parent: () => -1 },
];

const STATEMENTS = 50;

/** Statements by what they measure; `i` counts from 0. */
const OPERATIONS: Readonly<Record<string, (i: number) => string>> = {
  "point read": (i) => `SELECT c_balance FROM customer WHERE (c_w_id, c_d_id, c_id) = (1, 1, ${7 * i + 1})`,
  "range read": (i) =>
    `SELECT sum(ol_amount) FROM order_line WHERE (ol_w_id, ol_d_id) = (1, 2)
     AND ol_o_id BETWEEN ${50 * i} AND ${50 * i + 49}`,
  "update": (i) => `UPDATE stock SET s_quantity = 1 WHERE (s_w_id, s_i_id) = (1, ${11 * i + 1})`,
  "range update": (i) =>
    `UPDATE customer SET c_balance = 1 WHERE (c_w_id, c_d_id) = (1, 3) AND c_id BETWEEN ${20 * i} AND ${
      20 * i + 19
    }`,
  "DDL": (i) => `ALTER TABLE item ADD COLUMN more_${i} int`,
};

/** Medians in milliseconds by operation. The tree is gone afterwards. */
export async function measureShape(
  system: BranchingSystem,
  shape: Shape,
  branches: number,
): Promise<Map<string, number>> {
  const names = Array.from({ length: branches }, (_, i) => `n${i}`);
  const medians = new Map<string, number>();
  const note = (operation: string, times: number[]): void => {
    medians.set(operation, percentile(times.sort((a, b) => a - b), 0.5));
  };
  const creations: number[] = [];
  for (const [i, name] of names.entries()) {
    const parent = shape.parent(i);
    const started = performance.now();
    await system.make(name, parent === -1 ? ROOT_BRANCH : names[parent]!);
    creations.push(performance.now() - started);
  }
  note("create", creations);
  const newest = names.at(-1)!;
  const started = performance.now();
  await system.wake(newest);
  {
    await using session = await system.connect(newest);
    await session.query("SELECT w_ytd FROM warehouse WHERE w_id = 1");
    note("connect to the newest", [performance.now() - started]);
    for (const [operation, statement] of Object.entries(OPERATIONS)) {
      const times: number[] = [];
      for (let i = 0; i < STATEMENTS; i++) {
        const began = performance.now();
        await session.query(statement(i));
        times.push(performance.now() - began);
      }
      note(operation, times);
    }
  }
  const removals: number[] = [];
  // Children first.
  for (const name of names.reverse()) {
    const began = performance.now();
    await system.remove(name);
    removals.push(performance.now() - began);
  }
  note("remove", removals);
  return medians;
}
