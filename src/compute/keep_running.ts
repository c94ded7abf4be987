/**
 * Starts a compute afresh when a process of Postgres has crashed. Stock Postgres would recover from
 * its own data directory. But a compute's data directory has torn pages after a crash, and its WAL
 * lacks the images to repair them, so the compute gets a new one from the branch instead.
 */
import { errorMessage, ZenithError } from "../common/errors.ts";
import type { HostPort } from "../common/host_port.ts";
import { sleep } from "../common/sleep.ts";
import { Conditions } from "./postgres/conditions.ts";
import { PostgresCrashed } from "./postgres/postgres_process.ts";
import type { RunningCompute, StopMode } from "./supervise.ts";
import { type ComputeOptions, runCompute } from "./supervisor.ts";

/**
 * A Postgres that ran for this long was healthy: after its crash, the compute is started again
 * without a delay.
 */
const WELL_AFTER_MS = 10_000;
/** How long to wait between starts that fail, or that are followed by a crash too soon. */
const RETRY_MIN_MS = 200;
const RETRY_MAX_MS = 10_000;

/** @throws {ZenithError} why the first start failed; nothing is left running then */
export async function keepComputeRunning(options: Omit<ComputeOptions, "conditions" | "first" | "lastTerm">) {
  const conditions = new Conditions(options.paths);
  const stopping = new AbortController();
  const signal = AbortSignal.any([options.signal, stopping.signal]);
  const all: ComputeOptions = {
    ...options,
    signal,
    conditions,
    first: { isFirst: false },
    lastTerm: { value: null },
  };
  return new KeptCompute(all, await runCompute(all), stopping);
}

class KeptCompute implements RunningCompute {
  readonly address: HostPort;
  readonly ended: Promise<void>;
  readonly #options: ComputeOptions;
  readonly #stopping: AbortController;
  /** Undefined while the compute is being started afresh. */
  #current: RunningCompute | undefined;

  constructor(options: ComputeOptions, first: RunningCompute, stopping: AbortController) {
    this.#options = options;
    this.#stopping = stopping;
    this.address = first.address;
    this.#current = first;
    this.ended = this.#keep(first);
  }

  async stop(mode: StopMode): Promise<void> {
    const running = this.#current;
    this.#stopping.abort(new ZenithError("unavailable", "stopped while starting afresh"));
    // A start that is aborted cleans up after itself.
    await (running === undefined ? this.ended : running.stop(mode));
  }

  hurryStop(): void {
    this.#current?.hurryStop();
  }

  async #keep(first: RunningCompute): Promise<void> {
    let running: RunningCompute | undefined = first;
    let delayMs = 0;
    while (running !== undefined) {
      const startedMs = performance.now();
      try {
        return await running.ended;
      } catch (error) {
        if (!(error instanceof PostgresCrashed)) throw error;
        this.#current = undefined;
        const wasWell = performance.now() - startedMs > WELL_AFTER_MS;
        delayMs = wasWell ? 0 : nextDelay(delayMs);
        this.#options.log.error(`${error.message}; starting afresh where the branch ends`);
        running = await this.#startAfresh(error, wasWell ? 0 : delayMs);
      }
    }
  }

  /**
   * @returns undefined when it was stopped meanwhile
   * @throws an error that another attempt would not change
   */
  async #startAfresh(crash: PostgresCrashed, firstDelayMs: number): Promise<RunningCompute | undefined> {
    const { conditions, log, signal } = this.#options;
    const crashedMs = Date.now();
    const say = (why: string) =>
      conditions.set("crash", `starting afresh: ${why}`, {
        hint: 'nothing has to be done; "zenith logs" shows how it goes on',
        down: true,
      });
    conditions.clear();
    say(crash.message);
    for (let delayMs = firstDelayMs;; delayMs = nextDelay(delayMs)) {
      await sleep(delayMs, signal);
      if (signal.aborted) return undefined;
      try {
        this.#current = await runCompute({ ...this.#options, progress: () => {} });
      } catch (error) {
        if (signal.aborted) return undefined;
        if (!mayWorkLater(error)) throw error;
        log.warn(`could not start afresh: ${errorMessage(error)}`);
        say(`${crash.message}; ${errorMessage(error)}`);
        continue;
      }
      if (signal.aborted) {
        await this.#current.stop("immediate");
        return undefined;
      }
      const tookMs = Date.now() - crashedMs;
      log.info("started afresh after a crash", { tookMs });
      conditions.set("crash", `started afresh at ${new Date().toISOString()}: ${crash.message}`);
      return this.#current;
    }
  }
}

function nextDelay(delayMs: number): number {
  return Math.min(RETRY_MAX_MS, Math.max(RETRY_MIN_MS, delayMs * 2));
}

/**
 * Whether another attempt may succeed. Servers come back, disks and tenants get room. Nobody will
 * repair any other problem meanwhile.
 */
function mayWorkLater(error: unknown): boolean {
  if (!(error instanceof ZenithError)) return false;
  return ["unavailable", "timeout", "disk_full", "limit_exceeded"].includes(error.kind);
}
