/**
 * What a busy database takes up on the page server's disk, and whether what is made of its past stays right: pgbench runs, a
 * branch is made every ten seconds, layers are merged and history is given up meanwhile. Then every branch must start and hold
 * what pgbench keeps in balance; and when the branches are gone and garbage is collected, the disk must have come back. The
 * reference is the size of stock Postgres's data directory and the WAL that the page server keeps.
 *
 * `npm run bench -- space [minutes [pgbench scale]]`
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Lsn, parseLsn } from "../../src/common/lsn.ts";
import { makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import { type Comparison, report } from "./harness.ts";
import { BenchPageServer, type BenchTimeline } from "./lib/page_server.ts";
import { PostgresServer } from "./lib/postgres_server.ts";

const MINUTES = 10;
const SCALE = 10;
const BRANCH_EVERY_MS = 10_000;
/** Between the end of one garbage collection and the next. */
const COLLECT_AFTER_MS = 10_000;
const CLIENTS = 4;
/** History that is kept: little, so that much is given up while this runs. */
const HORIZON_BYTES = 16 << 20;
const SETTINGS = { full_page_writes: "off", max_wal_size: "4GB" };

/** pgbench moves the same amount in three tables and writes it down in a fourth: at any moment all add up to the same. */
const IN_BALANCE = `
SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(bbalance) FROM pgbench_branches)
   AND (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(tbalance) FROM pgbench_tellers)
   AND (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT coalesce(sum(delta), 0) FROM pgbench_history),
  (SELECT count(*) FROM pgbench_accounts)`;
const CHECK_INDEXES = `
SELECT count(bt_index_check(c.oid, true)) FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
WHERE c.relname LIKE 'pgbench%'`;

interface BranchMade {
  readonly name: string;
  readonly timeline: BenchTimeline;
  /** Of transactions that were there when it was asked for, at least. */
  readonly transactions: number;
}

interface Sizes {
  readonly timelines: readonly {
    readonly timeline_id: string;
    readonly physical_size_bytes: number;
    readonly wal_bytes: number;
  }[];
  readonly tenant_sizes: readonly { readonly physical_size_bytes: number }[];
}

class Soak {
  readonly server: BenchPageServer;
  readonly source: PostgresServer;
  readonly timeline: BenchTimeline;
  readonly dir: string;
  readonly branches: BranchMade[] = [];
  collections = 0;
  bytesRemoved = 0;

  constructor(server: BenchPageServer, source: PostgresServer, timeline: BenchTimeline, dir: string) {
    this.server = server;
    this.source = source;
    this.timeline = timeline;
    this.dir = dir;
  }

  /** Makes a branch every ten seconds and gives up history again and again, until `done`. */
  async disturb(done: Promise<unknown>): Promise<void> {
    let running = true;
    const end = done.then(() => (running = false), () => (running = false));
    const branching = async () => {
      for (let dueMs = performance.now(); running; dueMs += BRANCH_EVERY_MS) {
        await Promise.race([end, sleep(Math.max(0, dueMs - performance.now()))]);
        if (running) await this.#branch();
      }
    };
    const collecting = async () => {
      while (running) {
        await this.collectGarbage();
        await Promise.race([end, sleep(COLLECT_AFTER_MS)]);
      }
    };
    await Promise.all([branching(), collecting()]);
  }

  async #branch(): Promise<void> {
    const { tenant } = this.timeline;
    const transactions = Number(this.source.sql("SELECT count(*) FROM pgbench_history"));
    const lsn = this.source.sql("SELECT pg_current_wal_insert_lsn()");
    const name = `b${this.branches.length}`;
    const made = await this.server.command(`branch_create ${tenant} ${name} main@${lsn}`) as {
      timeline_id: BenchTimeline["timeline"];
    };
    this.branches.push({ name, timeline: { tenant, timeline: made.timeline_id }, transactions });
  }

  async collectGarbage(): Promise<void> {
    const { tenant, timeline } = this.timeline;
    await using client = await this.server.connect();
    const { columns, rows } = await client.query(`do_gc ${tenant} ${timeline} ${HORIZON_BYTES}`);
    const at = columns.findIndex(({ name }) => name === "bytes_removed");
    this.collections++;
    this.bytesRemoved += Number(rows[0][at]);
  }

  /** Starts stock Postgres on a branch. @throws when anything is not as it must be */
  async verify({ name, timeline, transactions }: BranchMade, accounts: number): Promise<void> {
    const pgdata = join(this.dir, name);
    await this.server.basebackup(timeline, pgdata);
    const postgres = new PostgresServer(pgdata, SETTINGS);
    postgres.start();
    try {
      const [balanced, count] = postgres.sql(IN_BALANCE).split("|");
      if (balanced !== "t") throw new Error(`branch ${name}: pgbench's balances differ`);
      if (Number(count) !== accounts) {
        throw new Error(`branch ${name} has ${count} accounts, not ${accounts}`);
      }
      const found = Number(postgres.sql("SELECT count(*) FROM pgbench_history"));
      if (found < transactions) {
        throw new Error(`branch ${name} has ${found} transactions of ${transactions}`);
      }
      postgres.sql(CHECK_INDEXES);
    } finally {
      postgres.stop("immediate");
      rmSync(pgdata, { recursive: true, force: true });
    }
  }

  async sizes(): Promise<{ layers: number; wal: number }> {
    const { timelines } = await this.server.command("status") as Sizes;
    const main = timelines.find(({ timeline_id }) => timeline_id === this.timeline.timeline);
    if (main === undefined) throw new Error("status does not tell the size of main");
    return { layers: main.physical_size_bytes - main.wal_bytes, wal: main.wal_bytes };
  }
}

async function soak(dir: string, minutes: number, scale: number): Promise<Comparison[]> {
  makeOwnedDirectory(dir, pgUser());
  await using server = await BenchPageServer.start(join(dir, "pageserver"));
  const timeline = await server.createTenant();
  await server.command(
    `tenant_config ${timeline.tenant} gc_horizon_bytes=${HORIZON_BYTES} pitr_interval=1s`,
  );
  await server.basebackup(timeline, join(dir, "source"));
  const source = new PostgresServer(join(dir, "source"), SETTINGS);
  source.start();
  try {
    await server.receiveFrom(timeline, source.connInfo);
    source.run("pgbench", ["-i", "-q", "-s", String(scale)]);
    source.sql("CREATE EXTENSION amcheck");
    const soak = new Soak(server, source, timeline, dir);
    const from = parseLsn(source.sql("SELECT pg_current_wal_flush_lsn()"));
    const load = source.spawn("pgbench", [
      "-n",
      "-c",
      String(CLIENTS),
      "-T",
      String(Math.round(minutes * 60)),
      "-P",
      "30",
    ]);
    await soak.disturb(load);
    console.log(await load);
    const lsn = parseLsn(source.sql("SELECT pg_current_wal_flush_lsn()"));
    await server.untilReadable(timeline, lsn);
    const atEnd = await soak.sizes();
    console.log(
      `${soak.branches.length} branches, ${soak.collections} garbage collections of ${soak.bytesRemoved} bytes, ` +
        `${
          lsn - from
        } bytes of WAL, ${atEnd.layers} bytes of layers, page server's peak ${server.peakRssBytes()} bytes`,
    );
    source.sql("CHECKPOINT");
    const live = Number(source.sql("SELECT sum(pg_database_size(oid)) FROM pg_database"));
    source.stop("fast");
    for (const branch of soak.branches) await soak.verify(branch, scale * 100_000);
    console.log(
      `all ${soak.branches.length} branches are readable and in balance, page server's peak ${server.peakRssBytes()} bytes`,
    );
    return await reclaimed(soak, live, lsn);
  } finally {
    if (source.isRunning) source.stop("immediate");
  }
}

async function reclaimed(soak: Soak, live: number, end: Lsn): Promise<Comparison[]> {
  const { server, timeline } = soak;
  for (const { name } of soak.branches) await server.command(`branch_delete ${timeline.tenant} ${name}`);
  await soak.collectGarbage();
  const { layers, wal } = await soak.sizes();
  const retained = Math.min(HORIZON_BYTES, end);
  const one = (value: number) => ({ median: value, min: value, max: value });
  return [{
    name: "layers and WAL, against live data and retained WAL",
    unit: "bytes",
    subject: one(layers + wal),
    reference: one(live + retained),
    ratio: (layers + wal) / (live + retained),
  }];
}

export async function run(args: readonly string[]): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "zenith-bench-space-"));
  try {
    report("space", await soak(dir, Number(args[0] ?? MINUTES), Number(args[1] ?? SCALE)));
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
