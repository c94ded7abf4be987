/** Tells which timeline a connection of PostgreSQL's replication protocol is for. */
import { ZenithError } from "../common/errors.ts";
import { parseTenantId, parseTimelineId, type TenantId, type TimelineId } from "../common/id.ts";
import type { Session } from "../pgwire/session.ts";
import type { Named } from "./operation.ts";
import { TENANT_OPTION, TIMELINE_OPTION } from "./wal_connection.ts";

/** @throws {ZenithError} `invalid_argument` when the options name no timeline */
export function sessionTimeline(
  session: Session,
): { readonly tenantId: TenantId; readonly timelineId: TimelineId } {
  const tenant = session.options.get(TENANT_OPTION);
  const timeline = session.options.get(TIMELINE_OPTION);
  if (tenant === undefined || timeline === undefined) {
    throw new ZenithError("invalid_argument", "the connection does not say which timeline it is for", {
      hint: `connect with options='-c ${TENANT_OPTION}=<tenant> -c ${TIMELINE_OPTION}=<timeline>'`,
    });
  }
  return { tenantId: parseTenantId(tenant), timelineId: parseTimelineId(timeline) };
}

/** What the connection's options name, as far as they do. */
export function namedBySession(session: Session): Named {
  const tenant = session.options.get(TENANT_OPTION);
  const timeline = session.options.get(TIMELINE_OPTION);
  return {
    ...(tenant === undefined ? {} : { tenant: parseTenantId(tenant) }),
    ...(timeline === undefined ? {} : { timelines: [parseTimelineId(timeline)] }),
  };
}
