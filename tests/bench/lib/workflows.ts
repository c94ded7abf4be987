/**
 * The five workflows of BranchBench (arXiv 2604.17180, section 3.3) in their small form: the shape of the tree, how many
 * workers, and what each step does are the paper's; the SQL does the same to the same tables.
 */
import { Random } from "../../harness/random.ts";
import { type BranchingSystem, ROOT_BRANCH } from "./branching_systems.ts";

const DISTRICTS = 10;
const CUSTOMERS_PER_DISTRICT = 3000;
const ITEMS = 100_000;
const ORDERS_PER_DISTRICT = 3000;
const LINES_PER_ORDER = 10;

/**
 * Warehouses of TPC-C, without what no workflow touches: 100 MB each with their indexes. The workflows use the first one.
 */
export function load(warehouses: number): string[] {
  const w = `generate_series(1, ${warehouses}) w`;
  const d = `generate_series(1, ${DISTRICTS}) d`;
  return [
    `CREATE TABLE warehouse (w_id int PRIMARY KEY, w_name text, w_ytd numeric)`,
    `INSERT INTO warehouse SELECT w, 'warehouse ' || w, 0 FROM ${w}`,
    `CREATE TABLE item (i_id int PRIMARY KEY, i_name text, i_price numeric(5,2), i_data text)`,
    `INSERT INTO item SELECT i, 'item ' || i, i % 100, repeat(md5(i::text), 1) FROM generate_series(1, ${ITEMS}) i`,
    `CREATE TABLE stock (s_w_id int, s_i_id int, s_quantity int, s_dist text, s_data text,
       PRIMARY KEY (s_w_id, s_i_id))`,
    `INSERT INTO stock SELECT w, i, 50 + i % 50, repeat(md5(i::text), 5), md5(i::text)
     FROM ${w}, generate_series(1, ${ITEMS}) i`,
    `CREATE TABLE customer (c_w_id int, c_d_id int, c_id int, c_last text, c_credit_lim numeric(12,2),
       c_balance numeric(12,2), c_ytd_payment numeric(12,2), c_data text, PRIMARY KEY (c_w_id, c_d_id, c_id))`,
    `INSERT INTO customer SELECT w, d, c, 'name ' || c, 50000, CASE WHEN c % 20 = 0 THEN NULL ELSE c - 100 END,
       c * 4, repeat(md5(c::text), 10) FROM ${w}, ${d}, generate_series(1, ${CUSTOMERS_PER_DISTRICT}) c`,
    `CREATE TABLE orders (o_w_id int, o_d_id int, o_id int, o_c_id int, o_carrier_id int, o_ol_cnt int,
       o_all_local int, o_entry_d timestamp, PRIMARY KEY (o_w_id, o_d_id, o_id))`,
    `INSERT INTO orders SELECT w, d, o, o, 1, ${LINES_PER_ORDER}, 1, '2026-01-01'
     FROM ${w}, ${d}, generate_series(1, ${ORDERS_PER_DISTRICT}) o`,
    `CREATE TABLE order_line (ol_w_id int, ol_d_id int, ol_o_id int, ol_number int, ol_i_id int, ol_supply_w_id int,
       ol_quantity int, ol_amount numeric(6,2), ol_dist_info text, PRIMARY KEY (ol_w_id, ol_d_id, ol_o_id, ol_number))`,
    `INSERT INTO order_line SELECT w, d, o, l, 1 + (o * 7 + l) % ${ITEMS}, w, 5, l, 'dist_info'
     FROM ${w}, ${d}, generate_series(1, ${ORDERS_PER_DISTRICT}) o, generate_series(1, ${LINES_PER_ORDER}) l`,
    `VACUUM ANALYZE`,
  ];
}

interface Step {
  readonly worker: number;
  readonly step: number;
  readonly random: Random;
}

export interface Workflow {
  readonly name: string;
  readonly workers: number;
  /** Of each worker. */
  readonly steps: number;
  /** How many branches the root may have, and each other one. */
  readonly rootFanout: number;
  readonly innerFanout: number;
  readonly maxDepth: number;
  /** How probable it is that a branch goes at the end of its step. */
  readonly prune: number;
  /** Statements that change the branch, one after another. */
  change(step: Step): string[];
  readonly evaluate: (suffix: string) => readonly string[];
  /** Asked of every branch that is left, once all steps are done. */
  readonly compare?: (suffix: string) => string;
}

const suffixOf = ({ worker, step }: Pick<Step, "worker" | "step">): string => `t${worker}_s${step}`;

const insertOrder = (district: number, order: number, customer: number): string =>
  `INSERT INTO orders VALUES (1, ${district}, ${order}, ${customer}, NULL, 5, 1, now()) ON CONFLICT DO NOTHING`;

const failureReproduction: Workflow = {
  name: "failure reproduction",
  workers: 1,
  steps: 10,
  rootFanout: 10,
  innerFanout: 0,
  maxDepth: 1,
  prune: 1,
  change(step) {
    const suffix = suffixOf(step);
    const district = 1 + step.random.int(DISTRICTS);
    const order = 100_000 + step.step;
    const key = `1, ${district}, ${order}`;
    return [
      `ALTER TABLE order_line ADD COLUMN ol_discount_${suffix} numeric(5,2)`,
      `ALTER TABLE order_line DROP COLUMN ol_discount_${suffix}`,
      `ALTER TABLE orders ADD COLUMN o_flag_${suffix} boolean DEFAULT false`,
      `ALTER TABLE customer ADD COLUMN c_note_${suffix} varchar(64)`,
      `ALTER TABLE stock ADD COLUMN s_tag_${suffix} varchar(16)`,
      insertOrder(district, order, 42),
      `UPDATE customer SET c_balance = c_balance - 72.50 WHERE c_w_id = 1 AND c_d_id = ${district} AND c_id = 42`,
      `DELETE FROM order_line WHERE (ol_w_id, ol_d_id, ol_o_id) = (${key})`,
      ...Array.from(
        { length: 42 },
        (_, i) =>
          `INSERT INTO order_line VALUES (${key}, ${
            i + 1
          }, 1, 1, 5, ${i}, 'dist_info') ON CONFLICT DO NOTHING`,
      ),
    ];
  },
  evaluate: () => [
    `SELECT DISTINCT o.o_id FROM orders o
     JOIN order_line ol ON (ol_o_id, ol_d_id, ol_w_id) = (o.o_id, o.o_d_id, o.o_w_id)
     WHERE o.o_id >= (SELECT max(o_id) - 100000 FROM orders) AND ol_i_id <= 15000
     GROUP BY o.o_id, o.o_ol_cnt HAVING o.o_ol_cnt <> count(*)`,
  ],
};

const softwareDevelopment: Workflow = {
  name: "software development",
  workers: 2,
  steps: 5,
  rootFanout: 3,
  innerFanout: 2,
  maxDepth: 3,
  prune: 0.1,
  change(step) {
    const suffix = suffixOf(step);
    return [
      `ALTER TABLE customer ADD COLUMN tier_${suffix} varchar(8)`,
      `ALTER TABLE customer ADD COLUMN lim_${suffix} numeric(10,2)`,
      `UPDATE customer SET tier_${suffix} = CASE WHEN c_ytd_payment > 9000 THEN 'Gold' ELSE 'Bronze' END,
         lim_${suffix} = c_credit_lim`,
    ];
  },
  evaluate: (suffix) => [
    `SELECT count(*) FROM customer WHERE tier_${suffix} IS NULL`,
    `SELECT tier_${suffix}, count(*), avg(lim_${suffix}) FROM customer GROUP BY 1`,
  ],
  compare: (suffix) => `SELECT tier_${suffix}, count(*), avg(lim_${suffix}) FROM customer GROUP BY 1`,
};

const dataCleaning: Workflow = {
  name: "data cleaning",
  workers: 3,
  steps: 6,
  rootFanout: 3,
  innerFanout: 2,
  maxDepth: 3,
  prune: 0,
  change: (step) => [
    `ALTER TABLE customer ADD COLUMN cleaned_${suffixOf(step)} boolean DEFAULT false`,
    step.worker % 2 === 0
      ? "UPDATE customer SET c_balance = 0 WHERE c_balance IS NULL"
      : "DELETE FROM customer WHERE c_balance IS NULL",
  ],
  evaluate: () => ["SELECT count(CASE WHEN c_balance < 0 THEN 1 END) FROM customer"],
  compare: () =>
    `SELECT count(CASE WHEN c_balance IS NULL THEN 1 END), max(c_ytd_payment) - min(c_ytd_payment) FROM customer`,
};

const treeSearch: Workflow = {
  name: "Monte Carlo tree search",
  workers: 3,
  steps: 8,
  rootFanout: 5,
  innerFanout: 3,
  maxDepth: 5,
  prune: 0.1,
  change: ({ random }) => [
    `UPDATE stock SET s_quantity = s_quantity - 1 WHERE s_w_id = 1 AND s_i_id = ${1 + random.int(ITEMS)}`,
  ],
  evaluate: () => ["SELECT sum(ol_amount) FROM order_line JOIN warehouse ON ol_supply_w_id = w_id"],
};

const simulation: Workflow = {
  name: "simulation",
  workers: 60,
  steps: 1,
  rootFanout: 60,
  innerFanout: 0,
  maxDepth: 1,
  prune: 1,
  change({ worker, random }) {
    const item = (): number => 1 + random.int(ITEMS);
    const statements: string[] = [];
    for (let day = 0; day < 16; day++) {
      const customer = 1 + random.int(CUSTOMERS_PER_DISTRICT);
      statements.push(
        insertOrder(1 + random.int(DISTRICTS), 100_000 * (worker + 1) + day, customer),
        `UPDATE stock SET s_quantity = s_quantity - 3 WHERE s_w_id = 1 AND s_i_id = ${item()} AND s_quantity >= 3`,
        `UPDATE stock SET s_quantity = s_quantity + 9 WHERE s_w_id = 1 AND s_i_id = ${item()} AND s_quantity < 60`,
      );
    }
    return statements;
  },
  evaluate: () => [
    `SELECT (SELECT count(*) FROM stock WHERE s_quantity <= 0), (SELECT sum(ol_amount) FROM order_line)`,
  ],
};

export const WORKFLOWS: readonly Workflow[] = [
  failureReproduction,
  softwareDevelopment,
  dataCleaning,
  treeSearch,
  simulation,
];

interface Node {
  readonly name: string;
  readonly suffix: string;
  readonly depth: number;
  children: number;
  /** Its step is done, so that others may branch from it. */
  ready: boolean;
}

/** Which branch comes from which. */
class Tree {
  readonly #workflow: Workflow;
  readonly nodes = new Set<Node>();
  readonly #root: Node = { name: ROOT_BRANCH, suffix: "", depth: 0, children: 0, ready: true };

  constructor(workflow: Workflow) {
    this.#workflow = workflow;
  }

  /** Takes a place below a random branch that has one; undefined when the tree is full for now. */
  add(name: string, suffix: string, random: Random): { node: Node; parent: Node } | undefined {
    const { rootFanout, innerFanout, maxDepth } = this.#workflow;
    const parents = [this.#root, ...this.nodes].filter((node) =>
      node.ready && node.depth < maxDepth && node.children < (node === this.#root ? rootFanout : innerFanout)
    );
    if (parents.length === 0) return undefined;
    const parent = parents[random.int(parents.length)]!;
    parent.children++;
    const node = { name, suffix, depth: parent.depth + 1, children: 0, ready: false };
    this.nodes.add(node);
    return { node, parent };
  }
}

/** Runs a workflow to its end, its branches' deletion included. @returns seconds */
export async function runWorkflow(system: BranchingSystem, workflow: Workflow): Promise<number> {
  const tree = new Tree(workflow);
  const started = performance.now();
  await Promise.all(
    Array.from({ length: workflow.workers }, (_, worker) => work(system, workflow, tree, worker)),
  );
  if (workflow.compare !== undefined) {
    for (const { name, suffix } of tree.nodes) {
      await using session = await system.connect(name);
      await session.query(workflow.compare(suffix));
    }
  }
  const elapsed = performance.now() - started;
  // Children first: they were added last.
  for (const { name } of [...tree.nodes].reverse()) await system.remove(name);
  return elapsed / 1000;
}

async function work(system: BranchingSystem, workflow: Workflow, tree: Tree, worker: number): Promise<void> {
  const random = new Random(42 + worker);
  for (let step = 0; step < workflow.steps; step++) {
    const suffix = suffixOf({ worker, step });
    const added = tree.add(`b_${suffix}`, suffix, random);
    if (added === undefined) continue;
    const { node, parent } = added;
    await system.create(node.name, parent.name);
    await runStep(system, node.name, workflow, { worker, step, random });
    if (random.int(1000) < 1000 * workflow.prune && node.children === 0) {
      tree.nodes.delete(node);
      parent.children--;
      await system.remove(node.name);
    } else node.ready = true;
  }
}

async function runStep(
  system: BranchingSystem,
  branch: string,
  workflow: Workflow,
  step: Step,
): Promise<void> {
  await using session = await system.connect(branch);
  for (const statement of workflow.change(step)) await session.query(statement);
  for (const query of workflow.evaluate(suffixOf(step))) await session.query(query);
}
