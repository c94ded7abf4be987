/** Where branches begin in time, and how far back they can be read. */
import { ZenithError } from "../../common/errors.ts";
import type { TenantId, TimelineId } from "../../common/id.ts";
import type { Lsn } from "../../common/lsn.ts";
import { parseTimestamp } from "../../common/timestamp.ts";
import type { HistoryPart, PageServerClient } from "../../control/page_server_client.ts";
import type { Branch } from "./branches.ts";
import { withPageServer, type WorkContext } from "./context.ts";

/** RFC 3339 each, as the page server says it. */
export interface BranchTimes {
  readonly id: string;
  readonly name: string;
  readonly timeline_id: string;
  readonly begins_at: string | null;
  readonly kept_from: string | null;
  readonly last_commit_at: string | null;
}

interface Remembered {
  readonly lsn: Lsn;
  /** By performance.now(). */
  readonly askedMs: number;
  readonly times: Pick<BranchTimes, "begins_at" | "kept_from" | "last_commit_at">;
}

/**
 * The page server opens a timeline to say this. So an answer about a branch that has not changed
 * since is good for so long, while its retention moves on.
 */
const REMEMBER_MS = 600_000;
const REMEMBER_MAX = 10_000;

export class Histories {
  readonly #remembered = new Map<string, Remembered>();

  async of(context: WorkContext, tenant: TenantId, branches: readonly Branch[]): Promise<BranchTimes[]> {
    return await withPageServer(context, async (client) => {
      const found: BranchTimes[] = [];
      for (const branch of branches) {
        const { known, name, timeline_id, latest_valid_lsn: lsn } = branch;
        const before = this.#remembered.get(timeline_id);
        let times = before?.times;
        if (before?.lsn !== lsn || performance.now() - before.askedMs > REMEMBER_MS) {
          const [own, parent] = await client.timelineHistory(tenant, timeline_id);
          times = {
            begins_at: before?.times.begins_at ?? await beginOf(client, tenant, branch, own, parent),
            kept_from: own?.first_moment ?? own?.kept_from ?? null,
            last_commit_at: own?.time ?? null,
          };
          this.#remember(timeline_id, { lsn, askedMs: performance.now(), times });
        }
        found.push({ id: known.id, name, timeline_id, ...times! });
      }
      return found;
    });
  }

  #remember(timeline: string, entry: Remembered): void {
    // The oldest goes: a map has the order of its entries.
    this.#remembered.delete(timeline);
    if (this.#remembered.size >= REMEMBER_MAX) {
      for (const oldest of this.#remembered.keys()) {
        this.#remembered.delete(oldest);
        break;
      }
    }
    this.#remembered.set(timeline, entry);
  }
}

/**
 * The moment of its parent at which a branch begins: that of its creation, if neither of the two
 * has a commit between the parent's last one that it has and then. Otherwise it was made of a
 * moment of the past, and begins at that commit.
 */
async function beginOf(
  client: PageServerClient,
  tenant: TenantId,
  { known, timeline_id, ancestor_id, ancestor_lsn }: Branch,
  own: HistoryPart | undefined,
  parent: HistoryPart | undefined,
): Promise<string | null> {
  if (ancestor_id === null || ancestor_lsn === null || parent === undefined || own === undefined) return null;
  const { createdAt } = known;
  const commit = parent.time;
  if (commit === null || Date.parse(createdAt) < Date.parse(commit)) return commit;
  if (own.time !== commit) {
    const found = await lsnAt(client, tenant, timeline_id, createdAt);
    if (found === undefined || found.timeline_id === timeline_id) return commit;
  }
  const [ofParent] = await client.timelineHistory(tenant, ancestor_id);
  if (ofParent?.time !== commit) {
    const found = await lsnAt(client, tenant, ancestor_id, createdAt);
    if (found === undefined || found.lsn > ancestor_lsn) return commit;
  }
  return createdAt;
}

/** @returns undefined where the page server does not know the moment, or knows it twice */
async function lsnAt(client: PageServerClient, tenant: TenantId, timeline: TimelineId, time: string) {
  try {
    return await client.lsnAt(tenant, timeline, parseTimestamp(time, "none"));
  } catch (error) {
    if (error instanceof ZenithError && (error.kind === "out_of_range" || error.kind === "conflict")) {
      return undefined;
    }
    throw error;
  }
}
