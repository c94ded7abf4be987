/** The slots of standbys at the safekeepers of a branch: each safekeeper keeps WAL for itself. */
import { errorMessage, ZenithError } from "../common/errors.ts";
import { formatHostPort } from "../common/host_port.ts";
import type { TenantId, TimelineId } from "../common/id.ts";
import { type Lsn, maxLsn } from "../common/lsn.ts";
import { checkSlotName } from "../pgwire/replication.ts";
import type { ServerAddress } from "../protocol/connect.ts";
import { SAFEKEEPER, type SafekeeperTimelineStatus } from "../protocol/management.ts";
import { callSafekeeper, type TimelineName } from "./safekeepers.ts";

/** A standby's slot, as all safekeepers together know it. */
export interface StandbySlotStatus {
  readonly tenant: TenantId;
  readonly timeline: TimelineId;
  readonly name: string;
  /** What the standby has, as far as any safekeeper knows. */
  readonly restartLsn: Lsn;
  readonly maxBytes: number;
  readonly active: boolean;
  /** How much acknowledged WAL the standby lacks. */
  readonly behindBytes: number;
  /** Whether no safekeeper has the WAL any more that the standby needs next. */
  readonly isLost: boolean;
  /** How many of the safekeepers that have the timeline don't have the slot. */
  readonly missing: number;
}

/** @param timelines what each safekeeper says about its timelines */
export function combineStandbySlots(timelines: readonly SafekeeperTimelineStatus[]): StandbySlotStatus[] {
  const ids = new Set(timelines.map(({ timeline_id }) => timeline_id));
  return [...ids].flatMap((id) => {
    const all = timelines.filter(({ timeline_id }) => timeline_id === id);
    const end = all.reduce((lsn, { commit_lsn }) => maxLsn(lsn, commit_lsn), 0 as Lsn);
    const names = new Set(all.flatMap(({ standby_slots }) => standby_slots.map(({ name }) => name)));
    return [...names].sort().map((name): StandbySlotStatus => {
      const slots = all.flatMap(({ standby_slots }) => standby_slots.filter((slot) => slot.name === name));
      const restartLsn = slots.reduce((lsn, { restart_lsn }) => maxLsn(lsn, restart_lsn), 0 as Lsn);
      return {
        tenant: all[0]!.tenant_id,
        timeline: id,
        name,
        restartLsn,
        maxBytes: Math.max(...slots.map(({ max_bytes }) => max_bytes)),
        active: slots.some(({ active }) => active),
        behindBytes: Math.max(0, end - restartLsn),
        isLost: restartLsn > 0 &&
          all.every(({ wal_start_lsn }) => wal_start_lsn !== null && wal_start_lsn > restartLsn),
        missing: all.length - slots.length,
      };
    });
  });
}

/**
 * Creates a slot at each safekeeper, or gives it another limit.
 *
 * @returns a message for each safekeeper that failed
 * @throws {ZenithError} `invalid_argument` when it is no name; the first failure, when all failed
 */
export async function createStandbySlot(
  safekeepers: readonly ServerAddress[],
  timeline: TimelineName,
  name: string,
  maxBytes: number,
): Promise<string[]> {
  checkSlotName(name);
  return await atEach(safekeepers, async (address) => {
    await callSafekeeper(address, SAFEKEEPER.timelineCreateStandbySlot, {
      ...timeline,
      name,
      max_bytes: maxBytes,
    });
  });
}

/**
 * Drops a slot at each safekeeper that has it.
 *
 * @returns how many have dropped it, and a message for each safekeeper that failed
 * @throws {ZenithError} `not_found` when none has it; the first failure, when all failed
 */
export async function dropStandbySlot(
  safekeepers: readonly ServerAddress[],
  timeline: TimelineName,
  name: string,
): Promise<{ dropped: number; problems: string[] }> {
  let dropped = 0;
  const problems = await atEach(safekeepers, async (address) => {
    try {
      await callSafekeeper(address, SAFEKEEPER.timelineDropStandbySlot, { ...timeline, name });
      dropped++;
    } catch (error) {
      if (!(error instanceof ZenithError) || error.kind !== "not_found") throw error;
    }
  });
  if (dropped === 0 && problems.length === 0) {
    throw new ZenithError("not_found", `no safekeeper has a standby slot ${name}`, {
      hint: '"zenith standby list" lists them',
    });
  }
  return { dropped, problems };
}

async function atEach(
  safekeepers: readonly ServerAddress[],
  work: (address: ServerAddress) => Promise<void>,
): Promise<string[]> {
  const results = await Promise.allSettled(safekeepers.map(work));
  const failures = results.map((result) =>
    result.status === "rejected" ? result.reason as unknown : undefined
  );
  if (failures.length > 0 && failures.every((failure) => failure !== undefined)) throw failures[0];
  return failures.flatMap((failure, i) =>
    failure === undefined ? [] : [`safekeeper ${formatHostPort(safekeepers[i]!)}: ${errorMessage(failure)}`]
  );
}
