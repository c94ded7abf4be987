/** The form in which a server reports what its check of data at rest has found. */
import type { TenantId, TimelineId } from "../common/id.ts";
import type { ScrubStatusJson } from "./management.ts";

/** What a check of data at rest has found so far. */
export interface ScrubFindings {
  readonly lastPassMs: number | null;
  readonly found: readonly {
    readonly tenantId: TenantId;
    readonly timelineId: TimelineId;
    readonly damage: { readonly what: string; readonly hint: string };
  }[];
}

/** Returns that in the form that `scrub_status` shows. */
export function scrubStatusJson({ lastPassMs, found }: ScrubFindings): ScrubStatusJson {
  return {
    last_pass_at: lastPassMs === null ? null : new Date(lastPassMs).toISOString(),
    found: found.map(({ tenantId, timelineId, damage }) => ({
      tenant_id: tenantId,
      timeline_id: timelineId,
      damage,
    })),
  };
}
