/**
 * Reads data at rest over and over, slowly, to find damage in data that nobody reads while there is
 * still another copy of it.
 */
import { errorMessage, ZenithError } from "../common/errors.ts";
import { nextTurn } from "../common/event_loop.ts";
import type { TenantId, TimelineId } from "../common/id.ts";
import { SCRUB_BYTES_PER_S_DEFAULT, SCRUB_PAUSE_MS_DEFAULT } from "../common/scrub_limits.ts";
import { sleep } from "../common/sleep.ts";
import type { Logger } from "./log.ts";

/** After a start, the scrub leaves the disk to other work for this long at most. */
const FIRST_PAUSE_MAX_MS = 60_000;

/** The limit on catching up: a reader that was slower than allowed makes up for this much time. */
const MAX_BEHIND_MS = 100;

/** What is damaged, and what to do about it. */
export interface Damage {
  readonly what: string;
  readonly hint: string;
}

/** A timeline that a pass checks. */
export interface ScrubItem {
  readonly tenantId: TenantId;
  readonly timelineId: TimelineId;
  /**
   * Checks the timeline piece by piece, and yields how many bytes each step has read, so that other
   * work gets its turn. Anything that it throws counts as damage too, unless the timeline is gone.
   */
  check(): AsyncGenerator<number, readonly Damage[]>;
  /** Whether the timeline still exists. One that was deleted meanwhile is not damaged. */
  exists(): boolean;
}

export interface FoundDamage {
  readonly tenantId: TenantId;
  readonly timelineId: TimelineId;
  readonly damage: Damage;
}

export interface ScrubOptions {
  /** The timelines to check, queried anew for each pass. @throws when they can't be listed now */
  readonly items: () => Iterable<ScrubItem>;
  readonly logger: Logger;
  readonly bytesPerS?: number | undefined;
  /** The pause between two passes. */
  readonly pauseMs?: number | undefined;
  /** What to do about damage that can't be read, when the check itself does not say so. */
  readonly hint: string;
}

/** Runs one pass after another in this thread, between its other work. */
export class Scrub {
  readonly #options: ScrubOptions;
  readonly #pauseMs: number;
  readonly #pace: Pace;
  readonly #stopping = new AbortController();
  /** What the last check of each timeline found. */
  readonly #found = new Map<string, readonly FoundDamage[]>();
  #lastPassMs: number | null = null;
  #running: Promise<void> = Promise.resolve();

  constructor(options: ScrubOptions) {
    this.#options = options;
    this.#pauseMs = options.pauseMs ?? SCRUB_PAUSE_MS_DEFAULT;
    this.#pace = new Pace(options.bytesPerS ?? SCRUB_BYTES_PER_S_DEFAULT, this.#stopping.signal);
  }

  /** The known damage. A later pass that finds a timeline sound, or gone, removes it from here. */
  get found(): readonly FoundDamage[] {
    return [...this.#found.values()].flat();
  }

  /** When the last complete pass ended, in milliseconds since 1970. */
  get lastPassMs(): number | null {
    return this.#lastPassMs;
  }

  /** Starts the passes. The first one begins after a pause. */
  start(): void {
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    await sleep(Math.min(FIRST_PAUSE_MAX_MS, this.#pauseMs), signal);
    while (!signal.aborted) {
      try {
        await this.pass();
      } catch (error) {
        this.#options.logger.warn(`could not check data at rest: ${errorMessage(error)}`, { err: error });
      }
      await sleep(this.#pauseMs, signal);
    }
  }

  /** Checks every timeline once. */
  async pass(): Promise<void> {
    const visited = new Set<string>();
    for (const item of this.#options.items()) {
      const key = keyOf(item);
      visited.add(key);
      const found = await this.#check(item);
      if (this.#stopping.signal.aborted) return;
      this.#note(key, item, found);
    }
    for (const key of this.#found.keys()) if (!visited.has(key)) this.#found.delete(key);
    this.#lastPassMs = Date.now();
  }

  async #check(item: ScrubItem): Promise<readonly Damage[]> {
    const damages: Damage[] = [];
    const check = item.check();
    try {
      for (;;) {
        const step = await check.next();
        if (step.done === true) {
          damages.push(...step.value);
          break;
        }
        await this.#pace.spend(step.value);
        if (this.#stopping.signal.aborted) break;
      }
    } catch (error) {
      // The timeline was closed or deleted, or is busy. Leave it to the next pass.
      if (isPassing(error)) return [];
      const hint = error instanceof ZenithError ? error.hint : undefined;
      damages.push({ what: errorMessage(error), hint: hint ?? this.#options.hint });
    } finally {
      await check.return([]);
    }
    return item.exists() ? damages : [];
  }

  #note(key: string, { tenantId, timelineId }: ScrubItem, damages: readonly Damage[]): void {
    const known = new Set(this.#found.get(key)?.map(({ damage }) => damage.what));
    for (const { what, hint } of damages) {
      if (known.has(what)) continue;
      this.#options.logger.error(`damaged: ${what}`, { tenant: tenantId, timeline: timelineId, hint });
    }
    if (damages.length === 0) this.#found.delete(key);
    else this.#found.set(key, damages.map((damage) => ({ tenantId, timelineId, damage })));
  }
}

function isPassing(error: unknown): boolean {
  return error instanceof ZenithError && (error.kind === "unavailable" || error.kind === "not_found");
}

function keyOf({ tenantId, timelineId }: ScrubItem): string {
  return `${tenantId}/${timelineId}`;
}

/** Limits a reader to a number of bytes per second. */
export class Pace {
  readonly #bytesPerS: number;
  readonly #signal: AbortSignal;
  readonly #clockMs: () => number;
  readonly #sleep: typeof sleep;
  #dueMs = 0;

  constructor(bytesPerS: number, signal: AbortSignal, clockMs = () => performance.now(), wait = sleep) {
    this.#bytesPerS = bytesPerS;
    this.#signal = signal;
    this.#clockMs = clockMs;
    this.#sleep = wait;
  }

  /** Resolves when more may be read, after other work has had its turn. */
  async spend(bytes: number): Promise<void> {
    const now = this.#clockMs();
    this.#dueMs = Math.max(this.#dueMs, now - MAX_BEHIND_MS) + bytes / this.#bytesPerS * 1000;
    const waitMs = this.#dueMs - now;
    if (waitMs >= 1) await this.#sleep(waitMs, this.#signal);
    else await nextTurn();
  }
}
