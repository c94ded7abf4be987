/** The writers that keep account of each commit, and pgbench beside them. */
import { assertConsistent, pgbench } from "../harness/pgbench.ts";
import { spawnProgram } from "../harness/programs.ts";
import { WriteHistory } from "../harness/write_history.ts";
import type { Compute } from "../harness/zenith_env.ts";
import type { Floor, Load, LoadEvents } from "./load.ts";

const WRITERS = 3;

export class Commits implements Load {
  readonly name = "commits";
  readonly history: WriteHistory;

  constructor(events: LoadEvents) {
    this.history = new WriteHistory(WRITERS, (error) => events.onLost(this.name, error));
  }

  prepare(pg: Compute): Promise<void> {
    return WriteHistory.createTables(pg);
  }

  start(pg: Compute): void {
    this.history.start(pg);
  }

  stop(): Promise<void> {
    return this.history.stop();
  }

  floor(): Floor {
    return this.history.floor();
  }

  async check(pg: Compute, floor: Floor): Promise<void> {
    await this.history.check(pg, floor as number[]);
  }

  settle(pg: Compute): Promise<void> {
    return this.history.verify(pg);
  }
}

export const PGBENCH_DATABASE = "bench";
const SCALE = 2;
const CLIENTS = 3;

export class Pgbench implements Load {
  readonly name = "pgbench";
  readonly #events: LoadEvents;
  #stop: () => Promise<void> = () => Promise.resolve();
  /** At the last check. */
  transactions = 0;

  constructor(events: LoadEvents) {
    this.#events = events;
  }

  async prepare(pg: Compute): Promise<void> {
    await pg.query(`CREATE DATABASE ${PGBENCH_DATABASE}`);
    await pgbench(pg, PGBENCH_DATABASE, "-i", "-q", "-s", String(SCALE));
  }

  start(pg: Compute): void {
    const child = spawnProgram(pg, "pgbench", ["-n", "-c", String(CLIENTS), "-T", "86400", PGBENCH_DATABASE]);
    let [stopping, said] = [false, ""];
    child.stdout.resume();
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-2_000);
    });
    const closed = new Promise<void>((resolve) => {
      child.on("close", () => {
        if (!stopping) this.#events.onLost(this.name, new Error(said));
        resolve();
      });
    });
    this.#stop = () => {
      stopping = true;
      child.kill("SIGTERM");
      return closed;
    };
  }

  stop(): Promise<void> {
    return this.#stop();
  }

  floor(): Floor {
    return undefined;
  }

  async check(pg: Compute): Promise<void> {
    this.transactions = await assertConsistent(pg, PGBENCH_DATABASE, SCALE);
  }
}
