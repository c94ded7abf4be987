/** How far a branch's WAL had come at moments of its past. */
import { ZenithError } from "../../common/errors.ts";
import type { TenantId } from "../../common/id.ts";
import { formatLsn } from "../../common/lsn.ts";
import { parseTimestamp } from "../../common/timestamp.ts";
import type { Branch } from "./branches.ts";
import { withPageServer, type WorkContext } from "./context.ts";

interface Span {
  /** In milliseconds since 1970. */
  readonly from: number;
  readonly to: number;
  /** How many moments, the ends included: 2 or more. */
  readonly points: number;
}

export async function walOf(
  context: WorkContext,
  tenant: TenantId,
  { timeline_id, latest_valid_lsn }: Branch,
  { from, to, points }: Span,
): Promise<{ time: string; lsn: string | null }[]> {
  const now = Date.now();
  return await withPageServer(context, async (client) => {
    const found = [];
    for (let i = 0; i < points; i++) {
      const ms = from + (to - from) * i / (points - 1);
      const time = new Date(ms).toISOString();
      if (ms >= now) {
        found.push({ time, lsn: formatLsn(latest_valid_lsn) });
        continue;
      }
      try {
        const { lsn } = await client.lsnAt(tenant, timeline_id, parseTimestamp(time, "none"));
        found.push({ time, lsn: formatLsn(lsn) });
      } catch (error) {
        const isUnknown = error instanceof ZenithError &&
          (error.kind === "out_of_range" || error.kind === "conflict");
        if (!isUnknown) throw error;
        found.push({ time, lsn: null });
      }
    }
    return found;
  });
}
