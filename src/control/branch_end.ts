/**
 * Waits until the page server has a branch's WAL, up to its last acknowledged commit or a moment.
 */
import { ZenithError } from "../common/errors.ts";
import { parseBranchOrTimeline, type TenantId, type TimelineId } from "../common/id.ts";
import { formatLsn, type Lsn } from "../common/lsn.ts";
import type { BranchPoint } from "../common/moment.ts";
import { sleep } from "../common/sleep.ts";
import { quorumOf } from "../consensus/quorum.ts";
import type { ServerAddress } from "../protocol/connect.ts";
import type { BranchInfo, PageServerClient } from "./page_server_client.ts";
import { safekeeperTimeline } from "./safekeepers.ts";

const CATCH_UP_TIMEOUT_MS = 10_000;
/** The missing WAL may be a single record of 1 GiB, which shows no progress until it ends. */
const CATCH_UP_BYTES_PER_MS = (8 << 20) / 1_000;
/**
 * The page server often catches up within milliseconds. Polling slows down when it takes longer.
 */
const FIRST_POLL_MS = 2;
const POLL_MAX_MS = 50;

/**
 * Waits until the page server has every commit on the branch that was acknowledged before the call.
 * It lags behind the safekeepers by the time that WAL takes to arrive. Without safekeepers it has
 * the WAL first.
 *
 * @throws {ZenithError} `unavailable` when too few safekeepers answer to tell, `timeout`
 */
export async function untilBranchEndArrived(
  pageServer: PageServerClient,
  tenant: TenantId,
  known: BranchInfo,
): Promise<void> {
  const { timeline_id: timeline } = known;
  const safekeepers = await pageServer.timelineSafekeepers(tenant, timeline);
  const end = await acknowledgedEnd(safekeepers, tenant, timeline);
  if (end === undefined || known.next_lsn >= end) return;
  const start = Date.now();
  let timeoutMs = 0;
  for (let pollMs = FIRST_POLL_MS;; pollMs = Math.min(2 * pollMs, POLL_MAX_MS)) {
    const branch = await pageServer.findBranch(tenant, timeline);
    if (branch === undefined || branch.next_lsn >= end) return;
    timeoutMs ||= CATCH_UP_TIMEOUT_MS + pageServerLag(branch, end) / CATCH_UP_BYTES_PER_MS;
    if (Date.now() - start > timeoutMs) {
      throw new ZenithError(
        "timeout",
        `the page server has branch ${branch.name} up to ${
          formatLsn(branch.latest_valid_lsn)
        }, the safekeepers up to ${formatLsn(end)}`,
        { hint: `name the LSN that you want: ${branch.name}@${formatLsn(branch.latest_valid_lsn)}` },
      );
    }
    await sleep(pollMs);
  }
}

/**
 * Waits until the page server can say what was committed by `timestamp`: until it has a later
 * commit, or all of the branch.
 *
 * @param timestamp microseconds since 2000
 * @throws {ZenithError} as {@link untilBranchEndArrived}
 */
export async function untilMomentArrived(
  pageServer: PageServerClient,
  tenant: TenantId,
  branch: BranchInfo,
  timestamp: number,
): Promise<void> {
  if (await isFollowedByCommit(pageServer, tenant, branch, timestamp)) return;
  await untilBranchEndArrived(pageServer, tenant, branch);
}

/**
 * Waits until the page server can make a branch from `point`. The end of a branch is its last
 * acknowledged commit, which may still be on its way, and so may the commits up to a given time.
 * The page server itself refuses an unknown branch or an LSN that was never written.
 *
 * @throws {ZenithError} as {@link untilBranchEndArrived}
 */
export async function untilPointArrived(
  pageServer: PageServerClient,
  tenant: TenantId,
  { name, moment }: BranchPoint,
): Promise<void> {
  const branch = await pageServer.findBranch(tenant, parseBranchOrTimeline(name));
  if (branch === undefined) return;
  if (moment.kind === "time") {
    await untilMomentArrived(pageServer, tenant, branch, moment.timestamp);
  } else if (moment.kind === "end" || moment.lsn > branch.next_lsn) {
    await untilBranchEndArrived(pageServer, tenant, branch);
  }
}

async function isFollowedByCommit(
  pageServer: PageServerClient,
  tenant: TenantId,
  branch: BranchInfo,
  timestamp: number,
): Promise<boolean> {
  try {
    const { lsn } = await pageServer.lsnAt(tenant, branch.timeline_id, timestamp);
    // More WAL may have arrived since the branch was looked up. An LSN beyond `branch` means that
    // no later commit was found.
    return lsn < branch.latest_valid_lsn;
  } catch (error) {
    // The time is in the future or before the history begins. The caller reports that once all WAL
    // has arrived.
    if (error instanceof ZenithError && error.kind === "out_of_range") return false;
    throw error;
  }
}

/**
 * Returns an LSN above which nothing has been acknowledged; undefined when no safekeeper has WAL of
 * that timeline.
 *
 * @throws {ZenithError} `unavailable` when too few safekeepers answer to tell
 */
export async function acknowledgedEnd(
  safekeepers: readonly ServerAddress[],
  tenant: TenantId,
  timeline: TimelineId,
): Promise<Lsn | undefined> {
  const answers = await Promise.allSettled(
    safekeepers.map((address) => safekeeperTimeline(address, tenant, timeline)),
  );
  const positions: Lsn[] = [];
  let silent = 0;
  for (const answer of answers) {
    if (answer.status === "rejected") {
      silent++;
      continue;
    }
    if (answer.value !== undefined) positions.push(answer.value.flush_lsn);
  }
  // Every safekeeper that doesn't answer may belong to the quorum behind an acknowledged commit.
  const needed = quorumOf(safekeepers.length) - silent;
  if (needed <= 0 && safekeepers.length > 0) {
    throw new ZenithError(
      "unavailable",
      `only ${
        safekeepers.length - silent
      } of ${safekeepers.length} safekeepers answer: the branch's end is not known`,
      { hint: 'run "zenith start", or name an LSN: <branch>@<LSN>' },
    );
  }
  return positions.sort((a, b) => b - a)[needed - 1];
}

/** How many bytes of the branch's acknowledged WAL, which ends at `end`, the page server lacks. */
export function pageServerLag({ latest_valid_lsn, next_lsn }: BranchInfo, end: Lsn): number {
  return end <= next_lsn ? 0 : end - latest_valid_lsn;
}
