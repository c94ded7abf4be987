import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { branchHere } from "../harness/branching.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let main: Compute;

before(async () => {
  env = await ZenithEnv.create();
  main = await env.startCompute("main");
  await main.query("CREATE TABLE history (writer int, step int)");
  await main.query("CREATE TABLE mirror (writer int, step int)");
  await main.query("CREATE INDEX ON history (writer, step)");
});
after(() => env[Symbol.asyncDispose]());

const WRITERS = 3;
const RECONNECT_MS = 100;

/**
 * Writers that insert (writer, step) into two tables in one transaction, each step once, and remember what was acknowledged. Of
 * a step whose connection broke nobody knows; it may be there or not, but never by halves.
 */
class History {
  readonly #acknowledged: Set<number>[] = Array.from({ length: WRITERS }, () => new Set());
  readonly #attempted: number[] = new Array(WRITERS).fill(0);
  #stopping = false;
  #running: Promise<void>[] = [];

  start(pg: Compute): void {
    this.#stopping = false;
    this.#running = Array.from({ length: WRITERS }, (_, writer) => this.#write(pg, writer));
  }

  get count(): number {
    return this.#acknowledged.reduce((sum, steps) => sum + steps.size, 0);
  }

  /** Resolves when `steps` more than now are acknowledged. */
  async progress(steps: number): Promise<void> {
    const goal = this.count + steps;
    await until(`${steps} more steps are acknowledged`, () => this.count >= goal);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#running);
  }

  async #write(pg: Compute, writer: number): Promise<void> {
    while (!this.#stopping) {
      try {
        await using session = await pg.connect();
        while (!this.#stopping) {
          const step = this.#attempted[writer]!++;
          await session.query(
            `BEGIN; INSERT INTO history VALUES (${writer}, ${step}); INSERT INTO mirror VALUES (${writer}, ${step}); COMMIT`,
          );
          this.#acknowledged[writer]!.add(step);
        }
      } catch {
        // Postgres is gone; it comes back, or the test fails for want of progress.
        await new Promise((resolve) => setTimeout(resolve, RECONNECT_MS));
      }
    }
  }

  /** Everything that was acknowledged is there once, nothing is there that was not tried, nothing is there by halves. */
  async check(pg: Compute): Promise<void> {
    for (let writer = 0; writer < WRITERS; writer++) {
      const steps = async (table: string) => {
        const rows = await pg.query(`SELECT step FROM ${table} WHERE writer = ${writer} ORDER BY step`);
        return rows.map((row) => Number(row["step"]));
      };
      const found = await steps("history");
      assert.deepEqual(await steps("mirror"), found, "both tables have the same steps");
      assert.equal(new Set(found).size, found.length, "nothing is there twice");
      assert.ok((found.at(-1) ?? -1) < this.#attempted[writer]!, "nothing is there that was not tried");
      const there = new Set(found);
      const lost = [...this.#acknowledged[writer]!].filter((step) => !there.has(step));
      assert.deepEqual(lost, [], `acknowledged steps of writer ${writer} are lost`);
    }
  }
}

describe("restarts under load", () => {
  const history = new History();

  test("an orderly restart of compute and page server keeps everything", async () => {
    history.start(main);
    await history.progress(50);
    await history.stop();
    await main.restart();
    await history.check(main);
    await env.pageserver.restart();
    history.start(main);
    await history.progress(50);
    await history.stop();
    await history.check(main);
  });

  test("a page server that is killed holds commits up, and loses none", async () => {
    history.start(main);
    for (let round = 0; round < 3; round++) {
      await history.progress(60);
      await env.pageserver.kill9();
      await env.pageserver.start();
      await history.progress(20);
    }
    await history.stop();
    await history.check(main);
    const branch = await branchHere(env, main, "after_page_server_kills");
    await history.check(branch);
    await branch.stop();
  });

  test("a Postgres that is killed loses nothing that it has acknowledged", async () => {
    history.start(main);
    for (let round = 0; round < 2; round++) {
      await history.progress(60);
      await main.kill9();
      await main.start();
      await history.progress(20);
    }
    await history.stop();
    await history.check(main);
    await main.restart();
    await history.check(main);
  });

  test("both killed at once lose nothing that was acknowledged", async () => {
    history.start(main);
    await history.progress(60);
    await Promise.all([env.pageserver.kill9(), main.kill9()]);
    await env.pageserver.start();
    await main.start();
    await history.progress(20);
    await history.stop();
    await history.check(main);
    await main.stop();
    await env.pageserver.restart();
    const branch = await env.startCompute("main");
    await history.check(branch);
  });
});
