/** Prepared transactions: what was prepared stays so, what was decided stays decided, whoever dies in between. */
import assert from "node:assert/strict";
import type { Connection } from "../harness/connection.ts";
import type { Random } from "../harness/random.ts";
import type { Compute } from "../harness/zenith_env.ts";
import { type Floor, type Load, type LoadEvents, Workers } from "./load.ts";

type State = "preparing" | "prepared" | "committing" | "committed" | "rolling back" | "rolled back";

/** So many are left open for a while. */
const MAX_OPEN = 5;

const gid = (n: number) => `torture_${n}`;

export class PreparedTransactions implements Load {
  readonly name = "prepared transactions";
  readonly #random: Random;
  readonly #workers: Workers;
  readonly #states = new Map<number, State>();
  #last = 0;

  constructor(random: Random, events: LoadEvents) {
    this.#random = random;
    this.#workers = new Workers(this.name, events);
  }

  get count(): number {
    return this.#last;
  }

  async prepare(pg: Compute): Promise<void> {
    await pg.query("CREATE TABLE prepared (n int PRIMARY KEY)");
  }

  start(pg: Compute): void {
    this.#workers.start(pg, 1, (session) => this.#step(session));
  }

  stop(): Promise<void> {
    return this.#workers.stop();
  }

  floor(): Floor {
    return new Map(this.#states);
  }

  /** Leaves what is prepared as it is. */
  async check(pg: Compute, floor: Floor): Promise<void> {
    const { open, rows } = await look(pg);
    for (const [n, then] of floor as Map<number, State>) {
      const what = `transaction ${n}, ${then} then, ${this.#states.get(n)} now: prepared ${
        open.has(n)
      }, row ${rows.has(n)}`;
      assert.ok(!(open.has(n) && rows.has(n)), what);
      if (then === "committed") assert.ok(rows.has(n), what);
      if (then === "rolled back") assert.ok(!rows.has(n) && !open.has(n), what);
      if (then === "prepared" && this.#states.get(n) === "prepared") assert.ok(open.has(n), what);
    }
    for (const n of [...open, ...rows]) {
      assert.ok(n <= this.#last, `transaction ${n} is there: nobody began it`);
    }
  }

  async settle(pg: Compute): Promise<void> {
    const { open, rows } = await look(pg);
    for (const [n, state] of this.#states) {
      const what = `transaction ${n} was ${state}: prepared ${open.has(n)}, row ${rows.has(n)}`;
      if (open.has(n)) {
        assert.ok(state !== "committed" && state !== "rolled back", what);
        this.#states.set(n, "prepared");
      } else if (state === "committing") {
        assert.ok(rows.has(n), what);
        this.#states.set(n, "committed");
      } else {
        assert.equal(rows.has(n), state === "committed", what);
        assert.notEqual(state, "prepared", what);
        if (state !== "committed") this.#states.set(n, "rolled back");
      }
    }
  }

  /** Commits what is open; nobody may be working. */
  async commitOpen(pg: Compute): Promise<void> {
    for (const [n, state] of this.#states) {
      if (state !== "prepared") continue;
      await pg.query(`COMMIT PREPARED '${gid(n)}'`);
      this.#states.set(n, "committed");
    }
  }

  async #step(session: Connection): Promise<void> {
    const open = [...this.#states].filter(([, state]) => state === "prepared").map(([n]) => n);
    if (open.length < MAX_OPEN && this.#random.oneIn(2)) return await this.#begin(session);
    if (open.length === 0) return;
    const n = open[this.#random.int(open.length)];
    const commits = !this.#random.oneIn(3);
    this.#states.set(n, commits ? "committing" : "rolling back");
    await session.query(`${commits ? "COMMIT" : "ROLLBACK"} PREPARED '${gid(n)}'`);
    this.#states.set(n, commits ? "committed" : "rolled back");
  }

  async #begin(session: Connection): Promise<void> {
    const n = ++this.#last;
    this.#states.set(n, "preparing");
    await session.query("BEGIN");
    await session.query(`INSERT INTO prepared VALUES (${n})`);
    await session.query(`PREPARE TRANSACTION '${gid(n)}'`);
    this.#states.set(n, "prepared");
  }
}

async function look(pg: Compute): Promise<{ open: Set<number>; rows: Set<number> }> {
  const open = await pg.query("SELECT substr(gid, 9)::int AS n FROM pg_prepared_xacts");
  const rows = await pg.query("SELECT n FROM prepared");
  const numbers = (found: Record<string, unknown>[]) => new Set(found.map((row) => Number(row["n"])));
  return { open: numbers(open), rows: numbers(rows) };
}
