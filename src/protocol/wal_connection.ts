/** The settings in a startup packet's `options` that tell a safekeeper what a connection is for. */
import { type HostPort, isLoopback } from "../common/host_port.ts";
import { formatConnInfo, quoteConnInfoValue } from "../pgwire/conninfo.ts";
import { formatCommandLineOptions } from "../pgwire/startup.ts";

/** The user name in connections to safekeepers, which have no users. */
export const SAFEKEEPER_USER = "zenith";

/** The names of the settings that say which timeline the connection is for. */
export const TENANT_OPTION = "ztenantid";
export const TIMELINE_OPTION = "ztimelineid";

/**
 * The name of the setting in which an elected proposer sends its term when it reads on behalf of
 * another acceptor.
 */
export const RECOVERY_TERM_OPTION = "zrecoveryterm";

/**
 * The application_name of page servers that receive WAL, and the name of their slot at a compute.
 * It tells a compute which standby is its synchronous one, and a safekeeper which reader's
 * confirmations allow it to remove WAL.
 */
export const WAL_RECEIVER_NAME = "pageserver";

/** The slot that keeps WAL at Postgres while the compute's proposer is not connected. */
export const WAL_PROPOSER_SLOT = "walproposer";

/** The application_name of a compute's connections to the page server. */
export const COMPUTE_NAME = "zenith_compute";

/** Returns the startup `options` that select a timeline. */
export function timelineOptions(tenantId: string, timelineId: string): string {
  return formatCommandLineOptions([[TENANT_OPTION, tenantId], [TIMELINE_OPTION, timelineId]]);
}

/** After this, libpq tries the next safekeeper. */
const STANDBY_CONNECT_TIMEOUT_MS = 5_000;

/** How a standby and the safekeepers prove who they are. */
export interface StandbyTrust {
  /** A token for the safekeepers, or the path of libpq's file that has it. */
  readonly password?: string | undefined;
  readonly passfile?: string | undefined;
  /** The path of the certificates by which safekeepers on other machines are recognized. */
  readonly caFile: string;
}

/**
 * Returns the `primary_conninfo` of a standby that gets committed WAL from any of the safekeepers,
 * which send nothing else.
 */
export function standbyConnInfo(
  safekeepers: readonly HostPort[],
  tenantId: string,
  timelineId: string,
  { password, passfile, caFile }: StandbyTrust,
): string {
  const list = (part: keyof HostPort): string => safekeepers.map((address) => address[part]).join(",");
  const rest = formatConnInfo({
    user: SAFEKEEPER_USER,
    password,
    options: timelineOptions(tenantId, timelineId),
    connectTimeoutMs: STANDBY_CONNECT_TIMEOUT_MS,
  });
  const file = passfile === undefined ? "" : ` passfile=${quoteConnInfoValue(passfile)}`;
  const tls = safekeepers.every(({ host }) => isLoopback(host))
    ? ""
    : ` sslmode=verify-full sslrootcert=${quoteConnInfoValue(caFile)}`;
  return `host=${list("host")} port=${list("port")} ${rest}${file}${tls}`;
}
