/**
 * One Postgres with three safekeepers under all kinds of load, while its processes are killed and frozen, branches are made,
 * started, checked and deleted, history is given up and layers are merged. What was acknowledged has to be there each time.
 *
 *   bun tests/torture/main.ts [--minutes <n>] [--seed <n>]
 *
 * The plan of faults comes from the seed. The end is a check of everything: histories, pg_amcheck, and every file of the page
 * server.
 */
import assert from "node:assert/strict";
import { appendFileSync, readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import type { DataCheck } from "../../src/common/data_check.ts";
import { addSettings, durableLsn } from "../harness/branching.ts";
import { amcheck } from "../harness/programs.ts";
import { Random } from "../harness/random.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";
import { Transfers } from "./transfers.ts";
import { Branches } from "./branches.ts";
import { Commits, Pgbench, PGBENCH_DATABASE } from "./commits.ts";
import { Definitions } from "./definitions.ts";
import { endsPostgres, endsSessions, Faults } from "./faults.ts";
import { LAST_WORDS, type Load, type LoadEvents } from "./load.ts";
import { Maintenance } from "./maintenance.ts";
import { describeFault, type Fault, planFaults } from "./plan.ts";
import { PreparedTransactions } from "./prepared.ts";
import { Watchdog } from "./watchdog.ts";

const { values: options } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
  },
});
const seed = Number(options.seed);
const durationMs = Number(options.minutes) * 60_000;

const COMPUTE_SETTINGS = ["max_prepared_transactions = 20", "shared_buffers = '16MB'"];
/** Layers so small that they are written, merged and given up all the time. */
const PAGESERVER_CONFIG = "checkpoint_distance_bytes = 4194304\ngc_period_s = 20\n";
const PITR_S = 60;
/** What is younger is surely kept: the page server counts from the last commit, we from before it. */
const SURELY_KEPT_MS = 45_000;
/** After a fault that leaves Postgres alive so many commits have to come before the next one. */
const COMMITS_BETWEEN_FAULTS = 50;

/** What Postgres says when it has been given a wrong page, or makes one by recovering from what it has itself. */
const WRONG_PAGES =
  /automatic recovery in progress|PANIC|XX00\d|read only \d+ of|invalid page|missing chunk|unexpected data beyond EOF|failed to re-find/;

class Torture implements LoadEvents {
  readonly #env: ZenithEnv;
  readonly #pg: Compute;
  readonly #startedMs = Date.now();
  readonly #plan: Generator<Fault, never>;
  readonly #faults: Faults;
  readonly #branches: Branches;
  readonly #commits: Commits;
  readonly #pgbench: Pgbench;
  readonly #transfers: Transfers;
  readonly #definitions: Definitions;
  readonly #prepared: PreparedTransactions;
  readonly #maintenance: Maintenance;
  readonly #loads: readonly Load[];
  readonly #done = new Map<string, number>();
  readonly #watchdog: Watchdog;
  readonly problems: string[] = [];
  #postgresMayEnd = false;
  #peakRssKib = 0;

  constructor(env: ZenithEnv, pg: Compute) {
    this.#env = env;
    this.#pg = pg;
    this.#watchdog = new Watchdog(env.dir);
    const random = (n: number) => new Random(seed * 16 + n);
    this.#plan = planFaults(random(0), env.safekeepers.length);
    this.#commits = new Commits(this);
    this.#pgbench = new Pgbench(this);
    this.#transfers = new Transfers(random(1), this);
    this.#definitions = new Definitions(random(2), this);
    this.#prepared = new PreparedTransactions(random(3), this);
    this.#maintenance = new Maintenance(random(4), this);
    this.#loads = [
      this.#commits,
      this.#pgbench,
      this.#transfers,
      this.#definitions,
      this.#prepared,
      this.#maintenance,
    ];
    this.#faults = new Faults(env, pg, this.#commits.history);
    const branching = {
      random: random(5),
      keptMs: SURELY_KEPT_MS,
      settings: COMPUTE_SETTINGS,
      onStep: (step: string) => this.#watchdog.note("branches", step),
    };
    this.#branches = new Branches(env, pg, this.#loads, this.#faults, branching);
  }

  onLost(load: string, error: unknown): void {
    if (!this.#postgresMayEnd) this.#problem(`${load}: session lost, though nobody ended Postgres`, error);
  }

  onUnexpected(load: string, error: unknown): void {
    this.#problem(load, error);
  }

  async run(): Promise<void> {
    try {
      await this.#watchdog.guard(this.#torture());
    } catch (error) {
      this.#problem("torture", error);
    }
    this.#summarize();
  }

  async #torture(): Promise<void> {
    for (const load of this.#loads) await load.prepare(this.#pg);
    this.#startLoads();
    await this.#branches.noteMoment();
    const branching = this.#keepBranching();
    try {
      while (!this.#isOver()) await this.#nextFault();
    } catch (error) {
      this.#problem("torture", error);
    }
    await branching;
    await this.#judge();
  }

  #isOver(): boolean {
    return this.problems.length > 0 || Date.now() - this.#startedMs > durationMs;
  }

  async #nextFault(): Promise<void> {
    const fault = this.#plan.next().value;
    this.#say(describeFault(fault));
    this.#watchdog.note("faults", describeFault(fault));
    this.#done.set(fault.kind, (this.#done.get(fault.kind) ?? 0) + 1);
    this.#postgresMayEnd = endsSessions(fault);
    await this.#faults.carryOut(fault);
    if (endsSessions(fault)) {
      this.#watchdog.note("faults", "stop the load");
      await this.#stopLoads();
      this.#watchdog.note("faults", "start Postgres");
      if (endsPostgres(fault)) await this.#pg.start();
      this.#watchdog.note("faults", "check everything that was acknowledged");
      await this.#check();
      this.#startLoads();
      this.#postgresMayEnd = false;
    }
    this.#watchdog.note("faults", "wait for commits");
    await this.#commits.history.untilAcknowledged(COMMITS_BETWEEN_FAULTS);
    await this.#branches.noteMoment();
    this.#peakRssKib = Math.max(this.#peakRssKib, rssKib(this.#env.pageserver.pid));
  }

  async #keepBranching(): Promise<void> {
    try {
      while (!this.#isOver()) await this.#branches.liveOne();
    } catch (error) {
      this.#problem("branches", error);
    }
  }

  #startLoads(): void {
    for (const load of this.#loads) load.start(this.#pg);
  }

  async #stopLoads(): Promise<void> {
    await Promise.all(this.#loads.map((load) => load.stop()));
  }

  /** Everything that was acknowledged is there; the loads go on from what is. */
  async #check(): Promise<void> {
    for (const load of this.#loads) {
      await load.check(this.#pg, load.floor());
      await load.settle?.(this.#pg);
    }
  }

  /** At rest: Postgres, a branch of its end, an eager start of it, and all files of the page server. */
  async #judge(): Promise<void> {
    const step = async (what: string, run: () => Promise<void>) => {
      this.#say(what);
      this.#watchdog.note("the end", what);
      await run().catch((error: unknown) => this.#problem(what, error));
    };
    await step("stop the load", () => this.#stopLoads());
    await step("check everything that was acknowledged", () => this.#check());
    // Their locks would keep pg_amcheck waiting.
    await step("commit what is prepared", () => this.#prepared.commitOpen(this.#pg));
    await step("pg_amcheck", () => amcheck(this.#pg, ["postgres", PGBENCH_DATABASE]));
    await step("branch from the end", async () => {
      await this.#branches.noteMoment();
      await this.#branches.liveOne();
    });
    await step("start eagerly", async () => {
      await durableLsn(this.#pg);
      await this.#pg.stop();
      await this.#env.zenith("pg", "start", this.#pg.branch, "--storage", "eager");
      await this.#check();
      await amcheck(this.#pg, ["postgres", PGBENCH_DATABASE]);
    });
    const wrong = this.#pg.postgresLog().split("\n")
      .filter((line) => WRONG_PAGES.test(line) && !LAST_WORDS.test(line));
    if (wrong.length > 0) this.#problem("Postgres's log", new Error(wrong.slice(0, 5).join("\n")));
    await step("stop everything", async () => void await this.#env.zenith("stop"));
    await step("check every file of the page server", async () => {
      const checks: DataCheck[] = JSON.parse(await this.#env.zenith("fsck", this.#env.repoDir, "--json"));
      for (const { path, strays, ...found } of checks) {
        this.#say(`${path}: ${JSON.stringify(found)}`);
        assert.deepEqual(strays, [], "a server that was stopped leaves nothing behind");
      }
    });
  }

  #summarize(): void {
    const seconds = Math.round((Date.now() - this.#startedMs) / 1000);
    const faults = [...this.#done].map(([kind, count]) => `${count} x ${kind}`).join(", ");
    const lines = [
      `faults: ${faults}`,
      `${this.#commits.history.acknowledged} commits acknowledged, ${this.#pgbench.transactions} of pgbench, ` +
      `${this.#transfers.count} transfers, ${this.#definitions.changes} changes of tables, ${this.#prepared.count} prepared ` +
      `transactions, ${this.#maintenance.statements} statements of maintenance`,
      `${this.#branches.checked} branches checked, ${this.#branches.refused} refused as too old`,
      `page server: at most ${Math.round(this.#peakRssKib / 1024)} MiB after a fault`,
      `seed ${seed}, ${seconds} s: ${
        this.problems.length === 0 ? "passed" : `${this.problems.length} problems`
      }`,
    ];
    for (const line of lines) console.log(line);
  }

  #problem(where: string, error: unknown): void {
    const text = error instanceof Error ? error.stack ?? error.message : String(error);
    this.problems.push(`${where}: ${text}`);
    this.#say(`PROBLEM ${where}: ${text}`);
  }

  #say(what: string): void {
    const seconds = ((Date.now() - this.#startedMs) / 1000).toFixed(1).padStart(7);
    console.log(`${seconds} s  ${what}`);
  }
}

function rssKib(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
}

async function main(): Promise<void> {
  console.log(`seed ${seed}`);
  await using env = await ZenithEnv.create({ safekeepers: 3, storage: "auto", start: false });
  appendFileSync(env.paths.pageserver.config, PAGESERVER_CONFIG);
  await env.zenith("start");
  await env.zenith(
    "tenant",
    "config",
    env.defaultTenant,
    "--pitr-interval",
    `${PITR_S}s`,
    "--gc-horizon-bytes",
    "0",
  );
  const pg = await env.createCompute("main");
  addSettings(pg, ...COMPUTE_SETTINGS);
  await pg.start();
  const torture = new Torture(env, pg);
  await torture.run();
  if (torture.problems.length > 0) {
    process.exitCode = 1;
    if (process.env["ZENITH_TEST_KEEP"] === "1") console.log(`kept: ${env.dir}`);
  }
}

await main();
