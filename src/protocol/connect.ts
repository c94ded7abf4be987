/**
 * Connects one of our processes to another: the only place that knows user, time-out and wording of
 * failures.
 */
import { errorMessage, systemErrorCode, ZenithError } from "../common/errors.ts";
import { formatHostPort, type HostPort } from "../common/host_port.ts";
import { PgClient } from "../pgwire/client.ts";
import { parseConnInfo } from "../pgwire/conninfo.ts";
import { PgError } from "../pgwire/sqlstate.ts";

export type ServerRole = "page server" | "safekeeper";

/** What connections to each role say they are; neither has users of its own. */
const USERS: Readonly<Record<ServerRole, string>> = { "page server": "zenith_admin", safekeeper: "zenith" };

const DATABASE = "zenith";
const CONNECT_TIMEOUT_MS = 10_000;

export interface ServerConnectOptions {
  /** The connection's name in the server's log. */
  readonly applicationName: string;
  /** Aborting it cuts the connection, also later. */
  readonly signal?: AbortSignal | undefined;
  /** Startup `options`, such as those that name a timeline. */
  readonly options?: string;
  /** Speaks the replication protocol. */
  readonly replication?: boolean;
  readonly connectTimeoutMs?: number;
}

/** How messages name a server: `the page server at 127.0.0.1:7600`. */
export function serverName(role: ServerRole, address: HostPort): string {
  return `the ${role} at ${formatHostPort(address)}`;
}

/**
 * Connects to one of our servers.
 *
 * @throws {ZenithError} `unavailable` when it does not run or does not answer; why it refuses;
 *   `signal`'s reason
 */
export async function connectServer(
  role: ServerRole,
  address: HostPort,
  options: ServerConnectOptions,
): Promise<PgClient> {
  const { applicationName, signal, options: startupOptions, replication, connectTimeoutMs } = options;
  try {
    return await PgClient.connect({
      ...address,
      user: USERS[role],
      database: DATABASE,
      applicationName,
      connectTimeoutMs: connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
      ...(signal === undefined ? {} : { signal }),
      ...(startupOptions === undefined ? {} : { options: startupOptions }),
      ...(replication === undefined ? {} : { replication }),
    });
  } catch (error) {
    if (signal?.aborted || error instanceof PgError) throw error;
    throw unreachable(serverName(role, address), error);
  }
}

function unreachable(server: string, error: unknown): ZenithError {
  const cause = error instanceof ZenithError ? error.cause ?? error : error;
  if (systemErrorCode(cause) === "ECONNREFUSED") {
    return new ZenithError("unavailable", `${server} is not running: ${errorMessage(cause)}`, {
      hint: 'start it with "zenith start"; "zenith status" shows what runs',
      cause: error,
    });
  }
  return new ZenithError("unavailable", `${server} does not answer: ${errorMessage(error)}`, {
    hint: '"zenith status" shows what runs',
    cause: error,
  });
}

/**
 * Connects to the walsender that a connection string names: a Postgres or a safekeeper.
 *
 * @throws {ZenithError} `invalid_argument` when the string is malformed; else as
 *   {@link PgClient.connect}
 */
export function connectWalSource(
  connInfo: string,
  options: { applicationName: string; signal: AbortSignal; connectTimeoutMs?: number },
): Promise<PgClient> {
  return PgClient.connect({ ...parseConnInfo(connInfo), replication: true, ...options });
}
