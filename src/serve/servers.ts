/**
 * Keeps the servers of an environment running: starts them, starts again what is killed, stops all.
 */
import { errorMessage } from "../common/errors.ts";
import { sleep } from "../common/sleep.ts";
import type { Logger } from "../process/log.ts";
import type { ComputePlace } from "../control/compute_places.ts";
import { finishDeletions } from "../control/deleted_computes.ts";
import { type Environment, hasLocalPageServer, pageServerAddress } from "../control/environment.ts";
import { killed } from "../control/killed.ts";
import { rememberEnvironment } from "../control/known_environments.ts";
import { forgetStart } from "../control/last_start.ts";
import { assertDataPresent, ensurePageServer } from "../control/page_server_process.ts";
import { PageServerClient } from "../control/page_server_client.ts";
import { prepareTokens } from "../control/prepare_tokens.ts";
import { sparesAheadOf } from "../control/computes.ts";
import { bringBack, computesToBringBack } from "../control/run_again.ts";
import { ensureSafekeeper, listSafekeepers } from "../control/safekeepers.ts";
import { stopEverything } from "../control/stop_everything.ts";
import type { StopMode } from "../control/stop_process.ts";
import type { SpareAhead } from "../process/spare_ahead.ts";

const LOOK_MS = 1_000;
/** How often to look whether a supervisor waits for the next start. */
const LOOK_AHEAD_MS = 5_000;
/** Between attempts to start what does not start. */
const BACKOFF_FIRST_MS = 2_000;
const BACKOFF_MAX_MS = 60_000;

/** A process that does not stay up. */
interface Failing {
  readonly attempts: number;
  readonly error: string;
  /** By performance.now(). */
  readonly againAtMs: number;
}

/** A process that could not be started again, as status shows it. */
export interface Problem {
  readonly name: string;
  readonly attempts: number;
  readonly error: string;
}

export class Servers {
  restarts = 0;
  readonly #environment: () => Environment;
  readonly #log: Logger;
  readonly #failing = new Map<string, Failing>();
  readonly #ending = new AbortController();
  #watching: Promise<unknown> = Promise.resolve();
  #ahead: SpareAhead | undefined;

  constructor(environment: () => Environment, log: Logger) {
    this.#environment = environment;
    this.#log = log;
  }

  /**
   * Starts what does not run, and every Postgres that should. Takes over what does.
   *
   * @throws what keeps the page server or a safekeeper from starting
   */
  async start(progress: (text: string) => void): Promise<void> {
    const environment = this.#environment();
    rememberEnvironment(environment);
    await prepareTokens(environment);
    if (hasLocalPageServer(environment)) {
      progress("starting the page server");
      assertDataPresent(environment);
      const ready = await ensurePageServer(environment, { onProgress: progress });
      if (ready !== undefined) this.#log.info("started the page server");
    }
    for (const safekeeper of listSafekeepers(environment).filter(({ running }) => !running)) {
      progress(`starting safekeeper ${safekeeper.id}`);
      const ready = await ensureSafekeeper(environment, safekeeper);
      if (ready !== undefined) this.#log.info(`started safekeeper ${safekeeper.id}`);
    }
    {
      await using client = new PageServerClient(pageServerAddress(environment));
      await finishDeletions(environment, client);
    }
    for (const found of computesToBringBack(environment)) {
      try {
        await bringBack(environment, found, progress);
        this.#log.info("started a compute that ran before", { tenant: found.tenant, compute: found.name });
      } catch (error) {
        this.#log.error(`could not start the Postgres of branch ${found.name}: ${errorMessage(error)}`, {
          tenant: found.tenant,
          err: error,
        });
      }
    }
  }

  /** Begins to start again what is killed. */
  watch(): void {
    this.#ahead = sparesAheadOf(this.#environment());
    this.#watching = Promise.all([this.#look(), this.#lookAhead()]);
  }

  problems(): Problem[] {
    return [...this.#failing].map(([name, { attempts, error }]) => ({ name, attempts, error }));
  }

  /**
   * Stops everything, computes first.
   *
   * @param isWoken whether a compute was woken by a client, and need not come back by itself
   */
  async stop(mode: StopMode, isWoken: (compute: ComputePlace) => boolean): Promise<void> {
    this.#ending.abort();
    await this.#ahead?.end();
    await this.#watching;
    await stopEverything(
      this.#environment(),
      mode,
      async (what, work) => {
        const wasRunning = await work((words) => this.#log.info(`${what} ${words}`));
        if (wasRunning) this.#log.info(`stopped ${what}`);
      },
      (compute) => {
        if (!isWoken(compute)) return true;
        forgetStart(compute.paths);
        return false;
      },
    );
  }

  async #look(): Promise<void> {
    const { signal } = this.#ending;
    for (; !signal.aborted; await sleep(LOOK_MS, signal)) {
      try {
        await this.#startKilled();
      } catch (error) {
        // Such as a config that somebody is editing. What runs goes on.
        this.#log.error(`could not look for what was killed: ${errorMessage(error)}`, { err: error });
      }
    }
  }

  /**
   * Each start leaves a supervisor that waits for the next, but that ends when none comes for long.
   */
  async #lookAhead(): Promise<void> {
    const { signal } = this.#ending;
    for (; !signal.aborted && this.#ahead !== undefined; await sleep(LOOK_AHEAD_MS, signal)) {
      // It is not waited for: a process that is stuck would hold up the end of this one.
      void this.#ahead.fill();
    }
  }

  async #startKilled(): Promise<void> {
    const environment = this.#environment();
    const failed = (name: string): boolean => this.#failing.has(name);
    for (const { name, start } of killed(environment, failed)) {
      if (this.#ending.signal.aborted) return;
      const before = this.#failing.get(name);
      if (before !== undefined && performance.now() < before.againAtMs) continue;
      this.#log.warn(`${name} was killed: starting it again`);
      try {
        await start();
        this.#failing.delete(name);
        this.restarts++;
      } catch (error) {
        const attempts = (before?.attempts ?? 0) + 1;
        const waitMs = Math.min(BACKOFF_FIRST_MS * 2 ** (attempts - 1), BACKOFF_MAX_MS);
        this.#failing.set(name, {
          attempts,
          error: errorMessage(error),
          againAtMs: performance.now() + waitMs,
        });
        this.#log.error(`${name} does not start: ${errorMessage(error)}`, { attempts, err: error });
        // The cause may be another process that is down. All are looked at again first.
        break;
      }
    }
    if (this.#failing.size === 0) return;
    const down = new Set([...killed(environment, failed)].map(({ name }) => name));
    for (const name of this.#failing.keys()) if (!down.has(name)) this.#failing.delete(name);
  }
}
