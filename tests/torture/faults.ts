/** Carries out faults on a living environment. */
import assert from "node:assert/strict";
import { checkPidFile, type ProcessIdentity } from "../../src/process/pid_file.ts";
import { postmasterPid } from "../../src/compute/postgres/postgres_process.ts";
import { huntWriter, killChild, untilStartedAfresh } from "../harness/backends.ts";
import type { WriteHistory } from "../harness/write_history.ts";
import { type Compute, until, type ZenithEnv } from "../harness/zenith_env.ts";
import type { Fault } from "./plan.ts";

/** Commits without a page server or with a frozen safekeeper may have to wait: what they wait for comes back after so long. */
const MAX_ABSENCE_MS = 4_000;
/** How long a process is looked for that is inside a write. */
const HUNT_MS = 1_000;

export class Faults {
  readonly #env: ZenithEnv;
  readonly #pg: Compute;
  readonly #history: WriteHistory;
  /** Grows with every beginning and end of a fault: whoever sees the same number twice had none in between. */
  epoch = 0;

  constructor(env: ZenithEnv, pg: Compute, history: WriteHistory) {
    this.#env = env;
    this.#pg = pg;
    this.#history = history;
  }

  get isActive(): boolean {
    return this.epoch % 2 === 1;
  }

  /** Runs what a fault may make fail; again when one was under way meanwhile. */
  async patiently<T>(run: () => Promise<T>): Promise<T> {
    for (;;) {
      const { epoch, isActive } = this;
      try {
        return await run();
      } catch (error) {
        if (this.epoch === epoch && !isActive) throw error;
        await until("the fault is over", () => !this.isActive);
      }
    }
  }

  /** Carries it out; all servers run again afterwards, Postgres only when {@link endsPostgres} says no. */
  async carryOut(fault: Fault): Promise<void> {
    this.epoch++;
    try {
      await this.#do(fault);
    } finally {
      this.epoch++;
    }
  }

  async #do(fault: Fault): Promise<void> {
    const { pageserver, safekeepers } = this.#env;
    switch (fault.kind) {
      case "kill page server":
        await pageserver.kill9();
        await this.#commitsGoOn(fault.commits);
        return await pageserver.start();
      case "restart page server":
        await pageserver.stop();
        return await pageserver.start();
      case "freeze page server":
        return await this.#freeze(pageserver.pid, () => this.#commitsGoOn(fault.commits));
      case "kill safekeeper":
        await safekeepers[fault.index].kill9();
        await this.#commitsGoOn(fault.commits);
        return await safekeepers[fault.index].start();
      case "restart safekeeper":
        await safekeepers[fault.index].stop();
        return await safekeepers[fault.index].start();
      case "freeze safekeeper":
        return await this.#freeze(safekeepers[fault.index].pid, () => this.#commitsGoOn(fault.commits));
      case "freeze supervisor":
        return await this.#freeze(this.#supervisor().pid, () => pause(fault.ms));
      case "freeze postmaster":
        return await this.#freeze(this.#postmaster(), () => pause(fault.ms));
      case "kill backend":
        return await this.#killBackend();
      case "kill supervisor":
        process.kill(this.#supervisor().pid, "SIGKILL");
        return;
      case "kill postmaster":
        return await this.#pg.kill9();
      case "restart Postgres":
        return await this.#pg.stop(fault.mode);
      case "kill page server, a safekeeper and the postmaster":
        await Promise.all([pageserver.kill9(), safekeepers[fault.index].kill9(), this.#pg.kill9()]);
        await pageserver.start();
        return await safekeepers[fault.index].start();
      case "collect garbage":
        return await this.#collectGarbage();
    }
  }

  async #commitsGoOn(commits: number): Promise<void> {
    const target = this.#history.acknowledged + commits;
    const deadline = Date.now() + MAX_ABSENCE_MS;
    await until("commits go on", () => this.#history.acknowledged >= target || Date.now() > deadline);
  }

  async #killBackend(): Promise<void> {
    const postmaster = this.#postmaster();
    killChild(await huntWriter(this.#pg, HUNT_MS));
    await untilStartedAfresh(this.#pg, postmaster);
  }

  async #freeze(pid: number, meanwhile: () => Promise<void>): Promise<void> {
    process.kill(pid, "SIGSTOP");
    try {
      await meanwhile();
    } finally {
      process.kill(pid, "SIGCONT");
    }
  }

  #supervisor(): ProcessIdentity {
    const found = checkPidFile(this.#pg.paths.pidFile);
    assert.ok(found.state === "running", "the supervisor runs");
    return found.process;
  }

  #postmaster(): number {
    const pid = postmasterPid(this.#pg.paths.pgdata);
    assert.ok(pid !== undefined, "the postmaster runs");
    return pid;
  }

  async #collectGarbage(): Promise<void> {
    await using client = this.#env.pageserver.client();
    const branches = await client.branchList(this.#pg.tenant);
    await using connection = await this.#env.pageserver.connect();
    const main = branches.find((branch) => branch.name === this.#pg.branch)!;
    await connection.query(`do_gc ${this.#pg.tenant} ${main.timeline_id}`);
  }
}

/** Whether all sessions are lost by that. */
export function endsSessions(fault: Fault): boolean {
  return endsPostgres(fault) || fault.kind === "kill backend";
}

/** Whether Postgres is down after that, and has to be started. */
export function endsPostgres({ kind }: Fault): boolean {
  return kind === "kill supervisor" || kind === "kill postmaster" || kind === "restart Postgres" ||
    kind === "kill page server, a safekeeper and the postmaster";
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
