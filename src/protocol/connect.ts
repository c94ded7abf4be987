/**
 * Connects one of our processes to a server: a page server, a safekeeper or a compute's Postgres.
 * It is the only place that knows the user, the time-out and the wording of failures.
 */
import { readFileSync, statSync } from "node:fs";
import { errorMessage, ioError, systemErrorCode, ZenithError } from "../common/errors.ts";
import { formatHostPort, type HostPort, isLoopback } from "../common/host_port.ts";
import type { TenantId } from "../common/id.ts";
import { PgClient } from "../pgwire/client.ts";
import { type ConnInfo, parseConnInfo } from "../pgwire/conninfo.ts";
import { PgError, SQLSTATE_INVALID_PASSWORD } from "../pgwire/sqlstate.ts";
import type { ClientTls } from "../pgwire/tls.ts";
import { connectTenantPlace } from "./tenant_place.ts";
import { TIMELINE_OPTION } from "./wal_connection.ts";
import { readTokenFile } from "../auth/private_file.ts";

export type ServerRole = "page server" | "safekeeper";

/** The user name that connections to each role send. Neither role has users of its own. */
const USERS: Readonly<Record<ServerRole, string>> = { "page server": "zenith_admin", safekeeper: "zenith" };

const DATABASE = "zenith";
const CONNECT_TIMEOUT_MS = 10_000;

/** Those of a whole system have some 200 KB. Devices have a size of 0. */
const AUTHORITIES_MAX_BYTES = 4 << 20;

/** By which we prove to a server who we are. It names files: their content is read when needed. */
export interface Credentials {
  /** A file with a token. When it is not there, we have none. */
  readonly tokenFile: string;
  /** The certificates of the authorities that vouch for servers on other machines, in PEM. */
  readonly caFile: string;
}

/** Where a server is, and who we are to it. */
export interface ServerAddress extends HostPort {
  readonly credentials?: Credentials | undefined;
  /** More page servers, where several share tenants. Any of them knows where a tenant is. */
  readonly others?: readonly HostPort[];
  /** The tenant that a connection is for, so that it goes to the page server that has it. */
  readonly tenant?: TenantId;
}

/** @throws {ZenithError} `invalid_argument` when the file has no token, `io` */
export function tokenOf(credentials: Credentials | undefined): string | undefined {
  return credentials === undefined ? undefined : readTokenFile(credentials.tokenFile);
}

function passwordOf(credentials: Credentials | undefined): { password?: string } {
  const token = tokenOf(credentials);
  return token === undefined ? {} : { password: token };
}

/**
 * How to recognize a server on another machine. On this one there is nobody in between.
 *
 * @throws {ZenithError} `invalid_argument` when we have no authority's certificate for that
 */
function tlsFor(server: string, host: string, credentials: Credentials | undefined): { tls?: ClientTls } {
  if (isLoopback(host)) return {};
  const file = credentials?.caFile;
  try {
    if (file !== undefined) return { tls: { ca: readFileSync(file, "utf8"), host } };
  } catch (error) {
    if (systemErrorCode(error) !== "ENOENT") throw ioError("read", file!, error);
  }
  throw new ZenithError(
    "invalid_argument",
    `${server} is on another machine, and there is no certificate ${file ?? ""} to recognize it by`,
    { hint: "copy the certificate of the authority there: auth/tls/ca.pem of that server's environment" },
  );
}

export interface ServerConnectOptions {
  /** The name that the server's log shows for the connection. */
  readonly applicationName: string;
  /** Aborting it closes the connection, even after it is established. */
  readonly signal?: AbortSignal | undefined;
  /** The startup packet's `options`, such as those that name a timeline. */
  readonly options?: string;
  /** Whether the connection uses the replication protocol. */
  readonly replication?: boolean;
  readonly connectTimeoutMs?: number;
}

/** A server's name for messages: `the page server at 127.0.0.1:7600`. */
export function serverName(role: ServerRole, address: HostPort): string {
  return `the ${role} at ${formatHostPort(address)}`;
}

/**
 * Connects to one of our servers. Of several page servers, to the one that has the address's
 * tenant; without a tenant, to the first that answers.
 *
 * @throws {ZenithError} `unavailable` when it does not run or does not answer; its own error when
 *   it refuses; `signal`'s reason
 */
export async function connectServer(
  role: ServerRole,
  address: ServerAddress,
  options: ServerConnectOptions,
): Promise<PgClient> {
  const { others = [], tenant, credentials } = address;
  if (others.length === 0) return await connectOne(role, address, options);
  const servers = [address, ...others].map(({ host, port }) => ({ host, port }));
  const connect = (server: HostPort) => connectOne(role, { ...server, credentials }, options);
  if (tenant === undefined) return await connectAny(servers, connect);
  return await connectTenantPlace({
    tenant,
    servers,
    who: credentials?.tokenFile ?? "",
    connectToAsk: (server, signal) =>
      connectOne(role, { ...server, credentials }, { applicationName: options.applicationName, signal }),
  }, connect);
}

/** Connects to the first server that answers. */
async function connectAny(
  servers: readonly HostPort[],
  connect: (server: HostPort) => Promise<PgClient>,
): Promise<PgClient> {
  for (const [i, server] of servers.entries()) {
    try {
      return await connect(server);
    } catch (error) {
      const isAway = error instanceof ZenithError && error.kind === "unavailable";
      if (!isAway || i === servers.length - 1) throw error;
    }
  }
  throw new ZenithError("invalid_argument", "there are no servers to connect to");
}

async function connectOne(
  role: ServerRole,
  address: ServerAddress,
  options: ServerConnectOptions,
): Promise<PgClient> {
  const { applicationName, signal, options: startupOptions, replication, connectTimeoutMs } = options;
  try {
    return await PgClient.connect({
      host: address.host,
      port: address.port,
      ...tlsFor(serverName(role, address), address.host, address.credentials),
      ...passwordOf(address.credentials),
      user: USERS[role],
      database: DATABASE,
      applicationName,
      connectTimeoutMs: connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
      ...(signal === undefined ? {} : { signal }),
      ...(startupOptions === undefined ? {} : { options: startupOptions }),
      ...(replication === undefined ? {} : { replication }),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    if (error instanceof PgError && error.sqlstate === SQLSTATE_INVALID_PASSWORD) {
      throw refused(serverName(role, address), address.credentials, error);
    }
    if (error instanceof PgError || isOurs(error)) throw error;
    throw unreachable(serverName(role, address), error);
  }
}

/** Whether the connection failed for a reason of our own, or because of who the server is. */
function isOurs(error: unknown): boolean {
  return error instanceof ZenithError && ["invalid_argument", "forbidden"].includes(error.kind);
}

function refused(server: string, credentials: Credentials | undefined, error: PgError): ZenithError {
  const token = tokenOf(credentials);
  const where = credentials === undefined ? "" : `, and there is none in ${credentials.tokenFile}`;
  return new ZenithError(
    "forbidden",
    token === undefined ? `${server} asks for a token${where}` : `${server} refuses us: ${error.message}`,
    { hint: '"zenith token create" makes one, where the environment of that server is', cause: error },
  );
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
 * @param options `credentials` are for safekeepers: by their authority we recognize one on another
 *   machine, and when `showsToken` is set, their token is for when the string has no password
 * @throws {ZenithError} `invalid_argument` when the string is malformed; otherwise as
 *   {@link PgClient.connect}
 */
export function connectWalSource(
  connInfo: string,
  { credentials, showsToken = false, ...options }: {
    applicationName: string;
    signal: AbortSignal;
    connectTimeoutMs?: number;
    credentials?: Credentials | undefined;
    showsToken?: boolean;
  },
): Promise<PgClient> {
  const info = parseConnInfo(connInfo);
  const password = info.password === undefined && showsToken ? passwordOf(credentials) : {};
  const tls = info.options?.includes(TIMELINE_OPTION) === true
    ? tlsFor(serverName("safekeeper", info), info.host, credentials)
    : {};
  return PgClient.connect({ ...info, ...password, ...tls, replication: true, ...options });
}

/**
 * Connects to the walsender of a primary that somebody else runs, with TLS as the connection string
 * asks for it: `prefer` unless it says otherwise, as libpq has it.
 *
 * @throws {ZenithError} `invalid_argument` when the string is malformed, or the certificates that
 *   it names can't be read; otherwise as {@link PgClient.connect}
 */
export function connectForeignPrimary(
  connInfo: string,
  options: { applicationName: string; signal: AbortSignal; connectTimeoutMs: number },
): Promise<PgClient> {
  const info = parseConnInfo(connInfo);
  return PgClient.connect({ ...info, ...foreignTls(info), replication: true, ...options });
}

function foreignTls({ host, sslMode = "prefer", sslRootCert }: ConnInfo): { tls?: ClientTls } {
  if (sslMode === "disable" || host.startsWith("/")) return {};
  if (sslRootCert === undefined && sslMode.startsWith("verify")) {
    throw new ZenithError("invalid_argument", `sslmode=${sslMode} needs certificates to verify ${host} by`, {
      hint: "name a file with them by sslrootcert, or sslrootcert=system",
    });
  }
  const ca = sslRootCert === undefined || sslRootCert === "system" ? undefined : readAuthorities(sslRootCert);
  // As in libpq, which keeps to what it did before there were other modes.
  const isVerified = sslMode.startsWith("verify") || sslMode === "require" && sslRootCert !== undefined;
  return {
    tls: {
      ca,
      host,
      verify: sslMode === "verify-full" ? "name" : isVerified ? "authority" : "nothing",
      isOptional: sslMode === "prefer",
    },
  };
}

/**
 * Whoever may name a primary may name any file here, so the error is the same whatever is wrong
 * with it.
 */
function readAuthorities(path: string): string {
  try {
    const { size } = statSync(path);
    if (size > 0 && size <= AUTHORITIES_MAX_BYTES) return readFileSync(path, "utf8");
  } catch {
    // Reported below.
  }
  throw new ZenithError("invalid_argument", `sslrootcert ${path} can't be read as a file of certificates`, {
    hint: "it has to be on the page server's machine, and its user has to be able to read it",
  });
}

export interface PostgresConnectOptions {
  readonly role: string;
  /** Defaults to the role's name. */
  readonly database?: string;
  /** The name that pg_stat_activity shows for the connection. */
  readonly applicationName: string;
  /** Aborting it closes the connection, even after it is established. */
  readonly signal?: AbortSignal | undefined;
  /** Whether the connection is a walsender's. */
  readonly replication?: boolean;
  readonly password?: string | undefined;
  /** Settings of the session, as `-c name=value`. */
  readonly options?: string;
  /** The path of a Unix socket, to connect to instead of the host. */
  readonly socketPath?: string;
}

/**
 * Connects to the Postgres of a compute.
 *
 * @param address its TCP address; or the directory of its Unix socket, and its port
 * @throws {ZenithError} as {@link PgClient.connect}
 */
export function connectPostgres(address: HostPort, options: PostgresConnectOptions): Promise<PgClient> {
  const { role, signal, ...rest } = options;
  return PgClient.connect({
    ...address,
    ...rest,
    user: role,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    ...(signal === undefined ? {} : { signal }),
  });
}
