/** A database that somebody runs on a stock PostgreSQL: it has some of everything, and is written while it is copied. */
import type postgres from "postgres";
import { StockCluster, type StockClusterOptions } from "./stock_cluster.ts";

export const ACCOUNTS = 2_000;

/** The round after which nothing is added that stays: a fast machine has many rounds in a backup. */
const GROWS_UNTIL = 60;

/** One round of a load, in a session of its own. Several lock the same rows, so that there are multixacts. */
type Step = (sql: postgres.Sql, round: number) => Promise<unknown>;

const STEPS: Readonly<Record<string, Step>> = {
  transfer: (sql, round) =>
    sql.begin(async (tx) => {
      await tx`UPDATE accounts SET balance = balance - 1 WHERE id = ${1 + (round * 7) % ACCOUNTS}`;
      await tx`UPDATE accounts SET balance = balance + 1 WHERE id = ${1 + (round * 13) % ACCOUNTS}`;
      await tx`INSERT INTO moves (note) VALUES (${"move ".repeat(50)})`;
    }),
  multixact: (sql, round) =>
    sql.begin(async (tx) => {
      await tx`SELECT FROM accounts WHERE id = ${1 + round % 50} FOR KEY SHARE`;
      await tx.savepoint((inner) =>
        inner`UPDATE accounts SET note = ${String(round)} WHERE id = ${1 + round % 50}`
      );
    }),
  sharers: (sql, round) =>
    sql.begin((tx) => tx`SELECT FROM accounts WHERE id BETWEEN 1 AND ${1 + round % 50} FOR KEY SHARE`),
  rewrite: async (sql, round) => {
    await sql.unsafe(
      `CREATE TABLE made_${round} AS SELECT n, md5(n::text) AS t FROM generate_series(1, 500) n`,
    );
    await sql.unsafe(`CREATE INDEX ON made_${round} USING hash (t)`);
    await sql.unsafe(`CREATE INDEX ON made_${round} (n)`);
    await sql.unsafe("VACUUM FULL moves");
    await sql.unsafe(`DELETE FROM made_${round} WHERE n > 100`);
    await sql.unsafe(`VACUUM made_${round}`);
    if (round % 2 === 1 || round > GROWS_UNTIL) await sql.unsafe(`DROP TABLE made_${round}`);
  },
  database: async (sql, round) => {
    if (round > GROWS_UNTIL) return;
    if (round % 3 === 0) await sql.unsafe(`DROP DATABASE IF EXISTS "other_${round - 1}"`);
    else {await sql.unsafe(
        `CREATE DATABASE other_${round} TEMPLATE shop${round % 3 === 1 ? " STRATEGY file_copy" : ""}`,
      );}
  },
  blob: async (sql, round) => {
    await sql`SELECT lo_from_bytea(${100_000 + round}, decode(repeat('abcd', 3000), 'hex'))`;
    if (round % 3 === 0) await sql`SELECT lo_unlink(${100_000 + round})`;
  },
  sequence: (sql) => sql`SELECT nextval('numbers') FROM generate_series(1, 50)`,
  prepared: async (sql, round) => {
    await sql.unsafe(
      `BEGIN; INSERT INTO orders VALUES (${round}); PREPARE TRANSACTION 'p${round}'`,
    );
    if (round % 2 === 0) await sql.unsafe(`COMMIT PREPARED 'p${round}'`);
    else if (round % 8 !== 3 || round > GROWS_UNTIL) await sql.unsafe(`ROLLBACK PREPARED 'p${round}'`);
  },
};

export class Production implements AsyncDisposable {
  readonly cluster: StockCluster;
  #load: Promise<void> = Promise.resolve();
  #isStopping = false;
  #rounds = 0;

  private constructor(cluster: StockCluster) {
    this.cluster = cluster;
  }

  static async start(options: StockClusterOptions = {}): Promise<Production> {
    const settings = {
      max_prepared_transactions: "50",
      max_wal_senders: "5",
      wal_keep_size: "'1GB'",
      ...options.settings,
    };
    const production = new Production(await StockCluster.start({ ...options, settings }));
    const { sql } = production.cluster;
    await sql.unsafe(`
      CREATE ROLE app LOGIN PASSWORD 'secret';
      CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL, note text);
      INSERT INTO accounts SELECT n, 1000, repeat('x', 200) FROM generate_series(1, ${ACCOUNTS}) n;
      CREATE TABLE orders (n int);
      CREATE TABLE moves (id bigserial PRIMARY KEY, note text);
      CREATE UNLOGGED TABLE passing (n int);
      INSERT INTO passing SELECT generate_series(1, 1000);
      CREATE SEQUENCE numbers`);
    await sql.unsafe("CREATE DATABASE shop");
    return production;
  }

  /** Does all steps at once, round after round, until {@link stopLoad}. Resolves after some rounds. */
  async startLoad(): Promise<void> {
    this.#isStopping = false;
    this.#load = this.#run();
    await this.roundsMore(3);
  }

  /** Resolves when the load has come round so many times more. */
  async roundsMore(count: number): Promise<void> {
    const goal = this.#rounds + count;
    while (this.#rounds < goal) {
      await Promise.race([this.#load, new Promise((resolve) => setTimeout(resolve, 10))]);
    }
  }

  async stopLoad(): Promise<void> {
    this.#isStopping = true;
    await this.#load;
  }

  async #run(): Promise<void> {
    const steps = Object.values(STEPS).map((step) => ({ step, sql: this.cluster.session() }));
    try {
      for (; !this.#isStopping; this.#rounds++) {
        await Promise.all(steps.map(({ step, sql }) => step(sql, this.#rounds)));
      }
    } finally {
      await Promise.allSettled(steps.map(({ sql }) => sql.end({ timeout: 5 })));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopping = true;
    await Promise.allSettled([this.#load]);
    await this.cluster[Symbol.asyncDispose]();
  }
}

/** Runs a statement in a database; the first column of its rows. */
export type Ask = (database: string, sql: string) => Promise<unknown[]>;

/** All that a cluster's databases hold, as text that can be compared. */
export async function contentOf(ask: Ask): Promise<Record<string, unknown>> {
  const content: Record<string, unknown> = {};
  // One that was being dropped when the copy ended is there, but nobody can connect to it.
  const isBeingDropped = "datconnlimit = -2";
  content["dropped"] = await ask(
    "postgres",
    `SELECT datname FROM pg_database WHERE ${isBeingDropped} ORDER BY 1`,
  );
  const databases = await ask(
    "postgres",
    `SELECT datname FROM pg_database WHERE datallowconn AND NOT ${isBeingDropped} ORDER BY 1`,
  );
  content["databases"] = databases;
  // A compute makes a role of its own, and gives the superuser a password.
  content["roles"] = await ask(
    "postgres",
    `SELECT rolname || coalesce(rolpassword, '') FROM pg_authid
       WHERE oid >= 16384 AND rolname <> 'zenith_owner' ORDER BY 1`,
  );
  content["prepared"] = await ask("postgres", "SELECT gid FROM pg_prepared_xacts ORDER BY 1");
  for (const database of databases.map(String)) {
    const relations = (kind: string) =>
      ask(
        database,
        `SELECT oid::regclass::text FROM pg_class WHERE relkind = '${kind}' AND oid >= 16384 ORDER BY 1`,
      );
    const tables = await relations("r");
    for (const sequence of (await relations("S")).map(String)) {
      // After a crash it goes on where its last WAL record has reserved numbers up to.
      [content[`${database}.${sequence}`]] = await ask(
        database,
        `SELECT last_value + log_cnt FROM ${sequence}`,
      );
    }
    [content[`${database} catalog`]] = await ask(
      database,
      `SELECT count(*) || ' ' || sum(hashtextextended(concat_ws(' ', oid, relname, relkind, relowner), 0)) FROM pg_class`,
    );
    for (const table of tables.map(String)) {
      const [sum] = await ask(
        database,
        `SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)), 0) FROM (SELECT * FROM ${table}) t`,
      );
      content[`${database}.${table}`] = sum;
    }
    [content[`${database} blobs`]] = await ask(
      database,
      `SELECT count(*) || ' ' || coalesce(sum(hashtextextended(loid || ' ' || pageno || data::text, 0)), 0)
         FROM pg_largeobject`,
    );
  }
  return content;
}
