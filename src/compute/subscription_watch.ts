/**
 * Notices subscriptions that confirm to their publisher what only this Postgres's disk has. Rows
 * that no safekeeper has acknowledged are lost with that disk, and the publisher does not send them
 * again.
 */
import { sleep } from "../common/sleep.ts";
import { parseSubscription, PG_SUBSCRIPTION, type Subscription } from "../postgres/cluster/subscription.ts";
import { catalogRows } from "./postgres/access_role.ts";
import type { Conditions } from "./postgres/conditions.ts";

/**
 * There is no hurry: the catalog is read from its files, as the last checkpoint has written them.
 */
const LOOK_MS = 10_000;
const CONDITION = "subscriptions";

/**
 * With these values of synchronous_commit, a subscription waits for the acknowledgement before it
 * confirms.
 */
const SAFE = new Set(["on", "remote_apply"]);

export interface SubscriptionWatchOptions {
  readonly pgdata: string;
  readonly major: number;
  readonly conditions: Conditions;
}

/**
 * Checks from time to time, until `signal` is aborted. Then it returns at once, because a read of
 * lazy storage may wait for a page server that does not run.
 */
export async function watchSubscriptions(
  options: SubscriptionWatchOptions,
  signal: AbortSignal,
): Promise<void> {
  const aborted = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
  while (!signal.aborted) {
    await Promise.race([look(options, signal), aborted]);
    await sleep(LOOK_MS, signal);
  }
}

async function look(
  { pgdata, major, conditions }: SubscriptionWatchOptions,
  signal: AbortSignal,
): Promise<void> {
  try {
    const rows = (await catalogRows(pgdata, PG_SUBSCRIPTION)).map((row) => parseSubscription(major, row));
    if (!signal.aborted) say(conditions, rows.filter((row) => row !== null));
  } catch {
    // A page was being written. The next look will read it whole.
  }
}

function say(conditions: Conditions, subscriptions: readonly Subscription[]): void {
  const names = subscriptions
    .filter(({ isEnabled, synchronousCommit }) => isEnabled && !SAFE.has(synchronousCommit))
    .map(({ name }) => name)
    .sort();
  if (names.length === 0) {
    conditions.set(CONDITION, undefined);
    return;
  }
  const which = `subscription${names.length === 1 ? "" : "s"} ${names.join(", ")}`;
  conditions.set(CONDITION, `its ${which} can lose rows when it is killed: they commit asynchronously`, {
    hint: `ALTER SUBSCRIPTION ${quoted(names[0])} SET (synchronous_commit = on)`,
    down: false,
  });
}

function quoted(name: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`;
}
