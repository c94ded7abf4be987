/**
 * Tables that are made, filled, indexed, altered, rewritten, truncated, renamed and dropped. Every transaction that does so also writes
 * what the table then holds into a ledger: both are there, or neither is.
 */
import assert from "node:assert/strict";
import type { Connection } from "../harness/connection.ts";
import type { Random } from "../harness/random.ts";
import type { Compute } from "../harness/zenith_env.ts";
import { type Floor, type Load, type LoadEvents, Workers } from "./load.ts";

const TABLES_PER_WORKER = 4;
const WORKERS = 2;

interface TableState {
  /** The last version whose commit was acknowledged. */
  acknowledged: number;
  /** The last version whose commit was asked for. */
  attempted: number;
  exists: boolean;
}

const INDEXES = [
  "USING btree (id)",
  "USING btree (note, id)",
  "USING hash (id)",
  "USING gin (tags)",
  "USING gist (area)",
  "USING spgist (note)",
  "USING brin (id)",
  "USING btree (id) WHERE id % 3 = 0",
];

const CHANGES: readonly ((table: string, random: Random) => string)[] = [
  (table, random) => insert(table, random),
  (table, random) => insert(table, random),
  (table, random) => `UPDATE ${table} SET note = note || 'u' WHERE id % ${2 + random.int(9)} = 0`,
  (table, random) => `DELETE FROM ${table} WHERE id % ${2 + random.int(5)} = 0`,
  (table, random) => `CREATE INDEX ON ${table} ${INDEXES[random.int(INDEXES.length)]}`,
  (table, random) => `CREATE INDEX ON ${table} ${INDEXES[random.int(INDEXES.length)]}`,
  (table) => `TRUNCATE ${table}`,
  (table, random) => `TRUNCATE ${table}; ${insert(table, random)}`,
  (table, random) => `ALTER TABLE ${table} ADD COLUMN c${random.u32()} int DEFAULT 7`,
  (table) => `ALTER TABLE ${table} ALTER id TYPE bigint USING id + 0`,
  (table) => `ALTER TABLE ${table} SET UNLOGGED; ALTER TABLE ${table} SET LOGGED`,
  (table, random) =>
    `ALTER TABLE ${table} RENAME TO old_${table}; CREATE TABLE ${table} AS TABLE old_${table}; DROP TABLE old_${table};
     ${insert(table, random)}`,
  (table, random) => `SAVEPOINT a; ${insert(table, random)}; ROLLBACK TO a; ${insert(table, random)}`,
];

function create(table: string): string {
  return `CREATE TABLE ${table} (id bigint, note text, tags int[], area box)`;
}

function insert(table: string, random: Random): string {
  const rows = 1 + random.int(random.oneIn(5) ? 3_000 : 200);
  return `INSERT INTO ${table} (id, note, tags, area)
    SELECT n, repeat(md5(n::text), ${
    1 + random.int(3)
  }), ARRAY[n % 7, n % 11], box(point(n, n), point(n + 1, n + 1))
    FROM generate_series(1, ${rows}) n`;
}

const CONTENT = (table: string) =>
  `SELECT count(*) AS rows, coalesce(sum(hashtext(note)), 0) AS sum FROM ${table}`;

/** Beyond that a table is dropped and begins anew. */
const MAX_ROWS = 20_000;

export class Definitions implements Load {
  readonly name = "definitions";
  readonly #random: Random;
  readonly #workers: Workers;
  readonly #tables = new Map<string, TableState>();
  changes = 0;

  constructor(random: Random, events: LoadEvents) {
    this.#random = random;
    this.#workers = new Workers(this.name, events);
    for (let i = 0; i < WORKERS * TABLES_PER_WORKER; i++) {
      this.#tables.set(`ddl_${i}`, { acknowledged: 0, attempted: 0, exists: false });
    }
  }

  async prepare(pg: Compute): Promise<void> {
    await pg.query(
      "CREATE TABLE ledger (name text PRIMARY KEY, version int, exists bool, rows bigint, sum bigint)",
    );
  }

  start(pg: Compute): void {
    this.#workers.start(pg, WORKERS, (session, worker) => this.#change(session, worker));
  }

  stop(): Promise<void> {
    return this.#workers.stop();
  }

  floor(): Floor {
    return new Map([...this.#tables].map(([name, { acknowledged }]) => [name, acknowledged]));
  }

  async check(pg: Compute, floor: Floor): Promise<void> {
    await using session = await pg.connect();
    const ledger = await session.query("SELECT * FROM ledger");
    for (const [name, least] of floor as Map<string, number>) {
      const row = ledger.find((row) => row["name"] === name);
      const version = Number(row?.["version"] ?? 0);
      const { attempted } = this.#tables.get(name)!;
      assert.ok(version >= least, `${name}: change ${least} was acknowledged, the last one is ${version}`);
      assert.ok(version <= attempted, `${name}: change ${version} is there, the last one was ${attempted}`);
      const exists = await session.value("SELECT to_regclass($1) IS NOT NULL", [name]);
      assert.equal(exists, row?.["exists"] ?? false, `${name}: whether it exists, at version ${version}`);
      if (exists !== true) continue;
      const [content] = await session.query(CONTENT(name));
      assert.deepEqual(content, { rows: row!["rows"], sum: row!["sum"] }, `${name}: version ${version}`);
    }
    const halves = await session.query("SELECT relname FROM pg_class WHERE relname LIKE 'old%ddl%'");
    assert.deepEqual(halves, [], "tables that were there for a moment only");
  }

  async settle(pg: Compute): Promise<void> {
    for (const row of await pg.query("SELECT * FROM ledger")) {
      const state = this.#tables.get(String(row["name"]))!;
      state.acknowledged = state.attempted = Number(row["version"]);
      state.exists = row["exists"] === true;
    }
    for (const state of this.#tables.values()) state.attempted = state.acknowledged;
  }

  async #change(session: Connection, worker: number): Promise<void> {
    const table = `ddl_${worker * TABLES_PER_WORKER + this.#random.int(TABLES_PER_WORKER)}`;
    const state = this.#tables.get(table)!;
    await session.query("BEGIN");
    const rows = state.exists ? Number(await session.value(`SELECT count(*) FROM ${table}`)) : 0;
    const drops = state.exists && (rows > MAX_ROWS || this.#random.oneIn(12));
    const sql = !state.exists
      ? `${create(table)}; ${insert(table, this.#random)}`
      : drops
      ? `DROP TABLE ${table}`
      : CHANGES[this.#random.int(CHANGES.length)](table, this.#random);
    await session.query(sql);
    const version = state.acknowledged + 1;
    const content = drops ? "SELECT 0 AS rows, 0 AS sum" : CONTENT(table);
    await session.query(
      `INSERT INTO ledger SELECT '${table}', ${version}, ${!drops}, rows, sum FROM (${content}) c
       ON CONFLICT (name) DO UPDATE
       SET version = excluded.version, exists = excluded.exists, rows = excluded.rows, sum = excluded.sum`,
    );
    if (this.#random.oneIn(6)) {
      await session.query("ROLLBACK");
      return;
    }
    state.attempted = version;
    await session.query("COMMIT");
    state.acknowledged = version;
    state.exists = !drops;
    this.changes++;
  }
}
