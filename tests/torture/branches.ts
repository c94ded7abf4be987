/** Branches of the tortured timeline: made at moments that something is known of, started, checked, written to, deleted. */
import assert from "node:assert/strict";
import { EXIT_USAGE } from "../../src/commands/cli/command.ts";
import { addSettings, durableLsn } from "../harness/branching.ts";
import type { CliResult } from "../harness/cli.ts";
import { amcheck } from "../harness/programs.ts";
import type { Random } from "../harness/random.ts";
import type { Compute, ZenithEnv } from "../harness/zenith_env.ts";
import { PGBENCH_DATABASE } from "./commits.ts";
import type { Faults } from "./faults.ts";
import type { Floor, Load } from "./load.ts";

/** An LSN, and what had been acknowledged before. */
interface Moment {
  readonly lsn: string;
  readonly floors: ReadonlyMap<Load, Floor>;
  readonly takenMs: number;
}

const MOMENTS_KEPT = 12;
/** Written on each branch. */
const ROWS = 1_000;
const EXIT_CONFLICT = 5;
const EXIT_NOT_FOUND = 4;

export class Branches {
  readonly #env: ZenithEnv;
  readonly #parent: Compute;
  readonly #loads: readonly Load[];
  readonly #faults: Faults;
  readonly #random: Random;
  readonly #keptMs: number;
  readonly #settings: readonly string[];
  readonly #onStep: (step: string) => void;
  readonly #moments: Moment[] = [];
  #count = 0;
  /** Those that were made, started, checked and deleted. */
  checked = 0;
  /** Those of a moment that is not kept any more. */
  refused = 0;

  /** @param keptMs the page server keeps what is younger */
  constructor(
    env: ZenithEnv,
    parent: Compute,
    loads: readonly Load[],
    faults: Faults,
    options: {
      random: Random;
      keptMs: number;
      settings: readonly string[];
      /** Is told what comes next. */
      onStep: (step: string) => void;
    },
  ) {
    this.#env = env;
    this.#parent = parent;
    this.#loads = loads;
    this.#faults = faults;
    this.#random = options.random;
    this.#keptMs = options.keptMs;
    this.#settings = options.settings;
    this.#onStep = options.onStep;
  }

  /** Notes where the parent is now. @throws what {@link durableLsn} throws when it is down */
  async noteMoment(): Promise<void> {
    const floors = new Map(this.#loads.map((load) => [load, load.floor()]));
    const takenMs = Date.now();
    this.#moments.push({ lsn: await durableLsn(this.#parent), floors, takenMs });
    if (this.#moments.length > MOMENTS_KEPT) this.#moments.shift();
  }

  /** The whole life of one branch of a moment that was noted. */
  async liveOne(): Promise<void> {
    // Mostly of late, for those can't be gone.
    const back = Math.min(this.#random.int(this.#moments.length), this.#random.int(this.#moments.length));
    const moment = this.#moments.at(-1 - back);
    if (moment === undefined) return;
    const name = `torture_${this.#count++}`;
    if (!await this.#make(name, `${this.#parent.branch}@${moment.lsn}`, moment.takenMs)) return;
    const branch = await this.#start(name);
    await this.#check(branch, moment);
    await this.#writeOn(branch);
    const deep = this.#random.oneIn(3) ? `${name}_deep` : undefined;
    if (deep !== undefined) {
      const lsn = await durableLsn(branch);
      await this.#make(deep, `${name}@${lsn}`, Date.now());
      const child = await this.#start(deep);
      await this.#amcheck(child);
      assert.equal(await child.value("SELECT count(*)::int FROM on_branch"), ROWS);
      await this.#end(child);
    }
    await this.#end(branch);
    this.checked++;
  }

  /** @returns false when the moment is gone, as it may be */
  async #make(name: string, start: string, takenMs: number): Promise<boolean> {
    this.#onStep(`make ${name}`);
    const result = await this.#run([0, EXIT_USAGE, EXIT_CONFLICT], "branch", name, start);
    // The one before it may have made it, and the answer may have been lost.
    if (result.code !== EXIT_USAGE) return true;
    const text = `${start}: ${result.stderr}`;
    assert.match(result.stderr, /not kept any more/, text);
    assert.ok(Date.now() - takenMs > this.#keptMs, `refused although young enough: ${text}`);
    this.refused++;
    return false;
  }

  async #start(name: string): Promise<Compute> {
    this.#onStep(`make the compute of ${name}`);
    const compute = await this.#faults.patiently(() => this.#env.createCompute(name));
    addSettings(compute, ...this.#settings);
    this.#onStep(`start ${name}`);
    await this.#faults.patiently(() => compute.start());
    return compute;
  }

  async #check(branch: Compute, { floors, lsn }: Moment): Promise<void> {
    for (const [load, floor] of floors) {
      this.#onStep(`check ${load.name} on ${branch.branch}`);
      try {
        await load.check(branch, floor);
      } catch (error) {
        const text = error instanceof Error ? error.message : String(error);
        throw new Error(`branch ${branch.branch} of ${lsn}, ${load.name}: ${text}`, { cause: error });
      }
    }
    this.#onStep(`commit what is prepared on ${branch.branch}`);
    // Their locks would keep pg_amcheck waiting.
    for (const { gid } of await branch.query("SELECT gid FROM pg_prepared_xacts")) {
      await branch.query(`COMMIT PREPARED '${gid}'`);
    }
    await this.#amcheck(branch);
  }

  async #amcheck(branch: Compute): Promise<void> {
    this.#onStep(`pg_amcheck on ${branch.branch}`);
    await amcheck(branch, ["postgres", PGBENCH_DATABASE]);
  }

  /** Writes on the branch, restarts it, and looks whether it is there. */
  async #writeOn(branch: Compute): Promise<void> {
    this.#onStep(`write on ${branch.branch}`);
    await branch.query(`CREATE TABLE on_branch AS SELECT n, md5(n::text) FROM generate_series(1, ${ROWS}) n`);
    await branch.query("UPDATE accounts SET balance = 1");
    if (this.#random.oneIn(2)) return;
    this.#onStep(`restart ${branch.branch}`);
    await branch.stop(this.#random.oneIn(2) ? "fast" : "immediate");
    await this.#faults.patiently(() => branch.start());
    assert.equal(await branch.value("SELECT count(*)::int FROM on_branch"), ROWS);
    assert.equal(await branch.value("SELECT sum(balance) = count(*) FROM accounts"), true);
    await branch.query("UPDATE accounts SET balance = 0");
  }

  async #end(branch: Compute): Promise<void> {
    this.#onStep(`stop ${branch.branch}`);
    await branch.stop(this.#random.oneIn(2) ? "fast" : "immediate");
    this.#onStep(`delete ${branch.branch}`);
    await this.#run([0], "pg", "stop", branch.branch, "--destroy");
    await this.#run([0, EXIT_NOT_FOUND], "branch", "delete", branch.branch);
  }

  /** Runs a command; again when the page server was away meanwhile. */
  #run(codes: readonly number[], ...args: string[]): Promise<CliResult> {
    return this.#faults.patiently(async () => {
      const result = await this.#env.tryZenith(...args, "--tenantid", this.#parent.tenant);
      if (!codes.includes(result.code ?? -1)) {
        throw new Error(`zenith ${args.join(" ")}: exit code ${result.code}\n${result.stderr}`);
      }
      return result;
    });
  }
}
