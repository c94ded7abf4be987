/** Vacuum in all its forms, and what else rewrites and moves rows without changing them. */
import type { Connection } from "../harness/connection.ts";
import type { Random } from "../harness/random.ts";
import type { Compute } from "../harness/zenith_env.ts";
import { type Floor, type Load, type LoadEvents, Workers } from "./load.ts";

const STATEMENTS = [
  "VACUUM accounts",
  "VACUUM history",
  "VACUUM (FULL) bank",
  "VACUUM (FULL) accounts",
  "VACUUM (FULL, ANALYZE) counts",
  "VACUUM (FREEZE, TRUNCATE) ledger",
  "VACUUM (INDEX_CLEANUP ON) prepared",
  "ANALYZE",
  "CLUSTER accounts USING accounts_pkey",
  "REINDEX TABLE accounts",
  "REINDEX TABLE CONCURRENTLY ledger",
  "REINDEX INDEX CONCURRENTLY counts_pkey",
  "CHECKPOINT",
  "VACUUM pg_class",
  "VACUUM (FULL) pg_attribute",
];
/** Rewriting all the time would leave no room for what is rewritten. */
const PAUSE_MS = 300;

export class Maintenance implements Load {
  readonly name = "maintenance";
  readonly #random: Random;
  readonly #workers: Workers;
  statements = 0;

  constructor(random: Random, events: LoadEvents) {
    this.#random = random;
    this.#workers = new Workers(this.name, events);
  }

  prepare(): Promise<void> {
    return Promise.resolve();
  }

  start(pg: Compute): void {
    this.#workers.start(pg, 1, (session) => this.#step(session));
  }

  stop(): Promise<void> {
    return this.#workers.stop();
  }

  floor(): Floor {
    return undefined;
  }

  check(): Promise<void> {
    return Promise.resolve();
  }

  async #step(session: Connection): Promise<void> {
    await session.query("SET lock_timeout = '5s'");
    await session.query(STATEMENTS[this.#random.int(STATEMENTS.length)]);
    this.statements++;
    await session.query(`SELECT pg_sleep(${PAUSE_MS / 1000})`);
  }
}
