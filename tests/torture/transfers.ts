/** Money that is moved about: whenever anybody looks, on whatever branch, the sum is what it was. */
import assert from "node:assert/strict";
import type { Connection } from "../harness/connection.ts";
import type { Random } from "../harness/random.ts";
import type { Compute } from "../harness/zenith_env.ts";
import { type Floor, type Load, type LoadEvents, Workers } from "./load.ts";

const ACCOUNTS = 2_000;
const TRANSFERRERS = 2;
const SUM = "SELECT count(*)::int AS accounts, sum(balance)::int AS sum FROM accounts";

export class Transfers implements Load {
  readonly name = "transfers";
  readonly #random: Random;
  readonly #transfers: Workers;
  readonly #readers: Workers;
  count = 0;

  constructor(random: Random, events: LoadEvents) {
    this.#random = random;
    this.#transfers = new Workers(this.name, events);
    this.#readers = new Workers(this.name, events);
  }

  async prepare(pg: Compute): Promise<void> {
    await using session = await pg.connect();
    await session.query("CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL, filler text)");
    await session.query(
      `INSERT INTO accounts SELECT n, 0, repeat('x', 300) FROM generate_series(0, ${ACCOUNTS - 1}) n`,
    );
    await session.query("CREATE INDEX ON accounts (balance)");
  }

  start(pg: Compute): void {
    this.#transfers.start(pg, TRANSFERRERS, (session) => this.#transfer(session));
    this.#readers.start(pg, 1, async (session) => assertSum(await session.query(SUM)));
  }

  async stop(): Promise<void> {
    await Promise.all([this.#transfers.stop(), this.#readers.stop()]);
  }

  floor(): Floor {
    return undefined;
  }

  async check(pg: Compute): Promise<void> {
    assertSum(await pg.query(SUM));
  }

  async #transfer(session: Connection): Promise<void> {
    const [from, to] = [this.#random.int(ACCOUNTS), this.#random.int(ACCOUNTS)];
    if (from === to) return;
    const amount = 1 + this.#random.int(1000);
    await session.query(
      `UPDATE accounts SET balance = balance + CASE id WHEN ${from} THEN -${amount} ELSE ${amount} END WHERE id IN (${from}, ${to})`,
    );
    this.count++;
  }
}

function assertSum(rows: Record<string, unknown>[]): void {
  assert.deepEqual(rows, [{ accounts: ACCOUNTS, sum: 0 }]);
}
