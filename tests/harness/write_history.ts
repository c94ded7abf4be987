/** Writers that remember what was acknowledged to them, and the check of what is there after something was killed. */
import assert from "node:assert/strict";
import type { Connection } from "./connection.ts";
import { type Compute, until } from "./zenith_env.ts";

interface Writer {
  readonly id: number;
  /** The last number whose commit was acknowledged. */
  acknowledged: number;
  /** The last number whose commit was asked for: it may or may not have happened. */
  attempted: number;
}

/** The bank's accounts, and what each has at first. */
const ACCOUNTS = 10;
const DEPOSIT = 1_000;

/**
 * Each writer commits 1, 2, 3, … of its own, one transaction each, which also counts them in a second table and moves
 * money between two accounts of a bank: the first shows what was lost or done twice, the others what was done by half. Writers
 * get in each other's way at the bank only.
 */
export class WriteHistory {
  readonly #writers: Writer[];
  #running: Promise<void>[] = [];
  readonly #onLost: (error: unknown) => void;
  #stopping = false;

  /** @param onLost is told when a writer ends before its time, and why */
  constructor(writers: number, onLost: (error: unknown) => void = () => {}) {
    this.#writers = Array.from({ length: writers }, (_, id) => ({ id, acknowledged: 0, attempted: 0 }));
    this.#onLost = onLost;
  }

  static async createTables(pg: Compute): Promise<void> {
    await using session = await pg.connect();
    await session.query("CREATE TABLE history (writer int, n int, payer int, payee int, amount int)");
    await session.query("CREATE TABLE counts (writer int PRIMARY KEY, n int)");
    await session.query("CREATE TABLE bank (account int PRIMARY KEY, balance int)");
    await session.query(`INSERT INTO bank SELECT a, ${DEPOSIT} FROM generate_series(0, ${ACCOUNTS - 1}) a`);
  }

  /** Commits that were acknowledged, all writers together. */
  get acknowledged(): number {
    return this.#writers.reduce((sum, writer) => sum + writer.acknowledged, 0);
  }

  /** Lets all writers write until their sessions are lost or {@link stop} is called. */
  start(pg: Compute): void {
    this.#stopping = false;
    this.#running = this.#writers.map((writer) => this.#write(writer, pg));
  }

  /** Waits until so many more commits have been acknowledged. */
  async untilAcknowledged(more: number): Promise<void> {
    const target = this.acknowledged + more;
    await until(`${more} more commits are acknowledged`, () => this.acknowledged >= target);
  }

  /** Ends the writers after their commit at hand. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#running);
  }

  async #write(writer: Writer, pg: Compute): Promise<void> {
    let session: Connection | undefined;
    try {
      session = await pg.connect();
      while (!this.#stopping) {
        writer.attempted = writer.acknowledged + 1;
        const payer = writer.attempted % ACCOUNTS;
        const payee = (payer + 1 + writer.id % (ACCOUNTS - 1)) % ACCOUNTS;
        await session.query(
          `WITH entry AS (
             INSERT INTO history VALUES ($1::int, $2::int, $3::int, $4::int, $5::int) RETURNING *
           ), locked AS (
             SELECT account FROM bank WHERE account IN ($3::int, $4::int) ORDER BY account FOR UPDATE
           ), moved AS (
             UPDATE bank SET balance = balance + CASE WHEN bank.account = entry.payee THEN amount ELSE -amount END
             FROM locked, entry WHERE bank.account = locked.account
           )
           INSERT INTO counts SELECT writer, 1 FROM entry ON CONFLICT (writer) DO UPDATE SET n = counts.n + 1`,
          [writer.id, writer.attempted, payer, payee, 1 + writer.attempted % 7],
        );
        writer.acknowledged = writer.attempted;
      }
    } catch (error) {
      // The session is lost, as it was meant to be: whether the last commit happened is what nobody told us.
      if (!this.#stopping) this.#onLost(error);
    } finally {
      await session?.close();
    }
  }

  /** The last number of each writer that was acknowledged by now. */
  floor(): number[] {
    return this.#writers.map((writer) => writer.acknowledged);
  }

  /** {@link check} of all that was acknowledged. Writers go on from what was found. */
  async verify(pg: Compute): Promise<void> {
    const found = await this.check(pg, this.floor());
    for (const [id, writer] of this.#writers.entries()) {
      writer.acknowledged = found[id];
      writer.attempted = found[id];
    }
  }

  /**
   * Every commit up to `floor` is there, none twice, none by half; of those that came later any may be there.
   *
   * @returns the last number of each writer
   */
  async check(pg: Compute, floor: readonly number[]): Promise<number[]> {
    await using session = await pg.connect();
    const rows = await session.query(
      `SELECT writer, count(*)::int AS rows, count(DISTINCT n)::int AS numbers, max(n) AS last,
              (SELECT n FROM counts WHERE counts.writer = history.writer) AS counted
       FROM history GROUP BY writer`,
    );
    const lasts = this.#writers.map((writer) => {
      const found = rows.find((row) => row["writer"] === writer.id);
      const last = Number(found?.["last"] ?? 0);
      const acknowledged = floor[writer.id];
      const what =
        `writer ${writer.id}: acknowledged ${acknowledged}, attempted ${writer.attempted}, found ${last}`;
      assert.ok(last >= acknowledged, `an acknowledged commit is lost: ${what}`);
      assert.ok(last <= writer.attempted, `a commit is there that nobody asked for: ${what}`);
      assert.equal(Number(found?.["numbers"] ?? 0), last, `a commit in the middle is lost: ${what}`);
      assert.equal(Number(found?.["rows"] ?? 0), last, `a commit is there twice: ${what}`);
      assert.equal(Number(found?.["counted"] ?? 0), last, `a commit is there by half: ${what}`);
      return last;
    });
    const wrong = await session.query(
      `SELECT account, balance, ${DEPOSIT} + moved AS expected FROM bank, LATERAL (
         SELECT COALESCE(sum(CASE WHEN payee = account THEN amount ELSE -amount END), 0) AS moved
         FROM history WHERE account IN (payer, payee)) m
       WHERE balance <> ${DEPOSIT} + moved`,
    );
    assert.deepEqual(wrong, [], "a transfer is there by half");
    const total = await session.value("SELECT sum(balance)::int FROM bank");
    assert.equal(total, ACCOUNTS * DEPOSIT, "the bank's total does not hold");
    return lasts;
  }
}
