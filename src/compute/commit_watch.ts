/**
 * Notices when commits don't become durable, and reports it. A waiting commit reports nothing
 * itself: its client only sees that it takes a long time.
 */
import type { Lsn } from "../common/lsn.ts";
import { sleep } from "../common/sleep.ts";
import type { Logger } from "../process/log.ts";
import type { Durability } from "./durability.ts";
import type { Conditions } from "./postgres/conditions.ts";
import type { CommitProgress } from "./proposer/commit_progress.ts";

/** Commits that have waited this long are reported. */
export const STALL_MS = 5_000;
const POLL_MS = 1_000;

export interface Stall {
  readonly sinceMs: number;
  /** What is known about the reason, as a clause. */
  readonly reason: string;
}

/**
 * Decides when commits have stalled. Pure: its caller reports to it from time to time how commits
 * progress.
 */
export class StallDetector {
  #durableLsn: Lsn | undefined;
  #partsLsn: Lsn | undefined;
  /** When WAL began to wait without any progress. */
  #sinceMs: number | undefined;

  /** @returns what to report once commits have waited for {@link STALL_MS} */
  step(nowMs: number, progress: CommitProgress): Stall | undefined {
    const { durableLsn, partsLsn, waits, connected, who, obstacles } = progress;
    const moved = this.#durableLsn !== durableLsn || this.#partsLsn !== partsLsn;
    this.#durableLsn = durableLsn;
    this.#partsLsn = partsLsn;
    // Without a connection, nobody knows whether WAL waits. The next commit will wait.
    if (moved || !waits && connected) this.#sinceMs = undefined;
    if (!waits && connected) return undefined;
    this.#sinceMs ??= nowMs;
    if (nowMs - this.#sinceMs < STALL_MS) return undefined;
    const reason = obstacles.length === 0 ? `${who} have not confirmed it` : obstacles.join("; ");
    return { sinceMs: this.#sinceMs, reason };
  }
}

export interface CommitWatchOptions {
  readonly durability: Durability;
  readonly conditions: Conditions;
  readonly log: Logger;
}

/**
 * Checks every second until `signal` is aborted. `pg list`, `status` and the log show the result.
 */
export async function watchCommits(options: CommitWatchOptions, signal: AbortSignal): Promise<void> {
  const { durability, conditions, log } = options;
  const detector = new StallDetector();
  let told: Stall | undefined;
  for (;;) {
    await sleep(POLL_MS, signal);
    if (signal.aborted) return;
    const progress = await durability.progress();
    if (progress === null || signal.aborted) return;
    const stall = detector.step(Date.now(), progress);
    if (stall === undefined) {
      if (told !== undefined) log.info("commits go on", { waitedMs: Date.now() - told.sinceMs });
      conditions.set("commits", undefined);
    } else {
      conditions.set("commits", describeStall(stall, progress), {
        hint: "commits go on by themselves when that is mended; nothing that was acknowledged is lost",
        down: true,
      });
      if (stall.reason !== told?.reason) log.warn(describeStall(stall, progress));
    }
    told = stall;
  }
}

function describeStall({ sinceMs, reason }: Stall, { writtenLsn, durableLsn }: CommitProgress): string {
  const waiting = Math.max(0, writtenLsn - durableLsn);
  const what = waiting === 0 ? "commits wait" : `commits wait with ${waiting} bytes of WAL`;
  return `${what} since ${new Date(sinceMs).toISOString()}: ${reason}`;
}
