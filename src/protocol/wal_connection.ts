/** Tells a safekeeper the purpose of a connection: settings in the startup packet's `options`. */
import { formatCommandLineOptions } from "../pgwire/startup.ts";

/** The user name on connections to safekeepers, which have no users. */
export const SAFEKEEPER_USER = "zenith";

/** Name the timeline that the connection is about. */
export const TENANT_OPTION = "ztenantid";
export const TIMELINE_OPTION = "ztimelineid";

/** Set by an elected proposer that reads on behalf of another acceptor: its term. */
export const RECOVERY_TERM_OPTION = "zrecoveryterm";

/**
 * The application_name of page servers that receive WAL, and of their slot at a compute. A compute
 * finds its synchronous standby by it; a safekeeper finds the reader whose confirmations allow it
 * to remove WAL.
 */
export const WAL_RECEIVER_NAME = "pageserver";

/** The slot that keeps WAL at Postgres while the compute's proposer is not connected. */
export const WAL_PROPOSER_SLOT = "walproposer";

/** The application_name of a compute's connections to the page server. */
export const COMPUTE_NAME = "zenith_compute";

/** The startup `options` that choose a timeline. */
export function timelineOptions(tenantId: string, timelineId: string): string {
  return formatCommandLineOptions([[TENANT_OPTION, tenantId], [TIMELINE_OPTION, timelineId]]);
}
