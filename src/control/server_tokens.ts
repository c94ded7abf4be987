/**
 * Gives the servers, the computes and the command line of an environment their tokens, so that they
 * trust each other without a step more.
 */
import { existsSync, readFileSync } from "node:fs";
import { hostname } from "node:os";
import { hasKeys, makeAuthDirectories, signingKeyId } from "../auth/key_files.ts";
import { readTokenFile, writePrivateFile } from "../auth/private_file.ts";
import { ioError, withIoErrors } from "../common/errors.ts";
import { formatHostPort, type HostPort, isLoopback, parseHostPort } from "../common/host_port.ts";
import type { TenantId, TimelineId } from "../common/id.ts";
import type { AuthPaths, ComputePaths } from "../common/paths.ts";
import type { Environment, EnvironmentConfig } from "./environment.ts";
import { dropTokenFile, ensureTokenFile, makeFirstKey } from "./tokens.ts";

/** Whether the environment's own servers ask their clients for tokens. */
export function asksForTokens({ paths, config }: Environment): boolean {
  return config.insecure !== true && hasKeys(paths.auth);
}

/** The options by which a server of the environment learns whether to ask for tokens. */
export function authOptions(environment: Environment): string[] {
  if (!asksForTokens(environment)) return ["--insecure"];
  const { cert, key } = environment.config.tls ?? {};
  return [
    "--auth",
    environment.paths.auth.dir,
    ...cert === undefined ? [] : ["--tls-cert", cert],
    ...key === undefined ? [] : ["--tls-key", key],
  ];
}

/**
 * Makes the first key, and the tokens of the command line and of the servers. Tokens that are there
 * stay, unless a server's address has changed.
 */
export async function ensureServerTokens({ paths, config }: Environment): Promise<void> {
  const { auth } = paths;
  await makeFirstKey(auth);
  await ensureCertificate(auth, config);
  await ensureTokenFile(auth, auth.adminToken, "the command line", { scope: "admin" });
  if ("listen" in config.pageserver) {
    await ensureTokenFile(auth, auth.pageserverToken, "the page server", { scope: "pageserver" });
  }
  for (const { id, listen } of config.safekeepers ?? []) {
    await ensureTokenFile(auth, auth.safekeeperToken(id), `safekeeper ${id}`, {
      scope: "safekeeper",
      addresses: [formatHostPort(parseHostPort(listen))],
    });
  }
}

/**
 * Makes a certificate for the servers when another machine may reach one of them, unless the
 * configuration names one from elsewhere.
 */
async function ensureCertificate(auth: AuthPaths, config: EnvironmentConfig): Promise<void> {
  const names = config.tls?.names ?? [];
  if (names.length === 0 && serverHosts(config).every(isLoopback)) return;
  await ensureCertificateFor({ auth, config }, []);
}

/**
 * Makes a certificate that the servers have in common, for their addresses and for `more`. Does
 * nothing when the configuration names one from elsewhere.
 */
export async function ensureCertificateFor(
  { auth, config }: { readonly auth: AuthPaths; readonly config: EnvironmentConfig },
  more: readonly string[],
): Promise<void> {
  if (config.tls?.cert !== undefined) return;
  const { ensureServerCertificate } = await import("../auth/certificates.ts");
  const own = [...serverHosts(config), ...more].filter((host) => host !== "" && !EVERYWHERE.has(host));
  await ensureServerCertificate(auth, [...LOCAL_NAMES, hostname(), ...own, ...config.tls?.names ?? []]);
}

function serverHosts({ pageserver, safekeepers = [] }: EnvironmentConfig): string[] {
  const addresses = [
    ..."listen" in pageserver ? [pageserver.listen] : [],
    ...safekeepers.map(({ listen }) => listen),
  ];
  return addresses.map((address) => parseHostPort(address).host);
}

/** Addresses that stand for all of a machine. */
const EVERYWHERE: ReadonlySet<string> = new Set(["0.0.0.0", "::", "*"]);

const LOCAL_NAMES = ["localhost", "127.0.0.1", "::1"];

/**
 * Keeps the token for another environment's page server.
 *
 * @throws {ZenithError} as {@link readTokenFile}
 */
export function keepGivenToken({ paths }: Environment, file: string): void {
  const token = readTokenFile(file);
  if (token === undefined) throw ioError("read", file, new Error("there is no such file"));
  makeAuthDirectories(paths.auth);
  writePrivateFile(paths.auth.adminToken, `${token}\n`);
}

/**
 * Keeps the certificate by which another environment's page server is recognized.
 *
 * @throws {ZenithError} `io`
 */
export function keepGivenAuthority({ paths }: Environment, file: string): void {
  const certificate = withIoErrors("read", file, () => readFileSync(file, "utf8"));
  makeAuthDirectories(paths.auth);
  writePrivateFile(paths.auth.caCertificate, certificate);
}

/** A compute, as far as its token is concerned. */
interface TokenHolder {
  readonly name: string;
  readonly address: HostPort;
  /** A replica's number; null for others. */
  readonly replica: number | null;
  readonly paths: ComputePaths;
  readonly identity: {
    readonly tenant: TenantId;
    readonly timeline: TimelineId;
    readonly walAcceptors: readonly HostPort[];
  };
}

/**
 * Makes sure that a compute has a token for its own timeline. It names where the page server may be
 * told to fetch WAL: from the compute itself, and from its safekeepers.
 *
 * @returns the file with the token; undefined when there is none
 */
export async function ensureComputeToken(
  { paths }: Environment,
  { name, address, replica, paths: { token, walToken }, identity }: TokenHolder,
): Promise<string | undefined> {
  const { auth } = paths;
  if (signingKeyId(auth) === undefined) {
    // Only the other environment, whose page server this is, could make one.
    return existsSync(auth.adminToken) ? auth.adminToken : undefined;
  }
  const { tenant, timeline, walAcceptors } = identity;
  await ensureTokenFile(auth, token, `the Postgres of ${name}`, {
    scope: "compute",
    tenant,
    timeline,
    addresses: [formatHostPort(address)],
    safekeepers: walAcceptors.map(formatHostPort),
  });
  if (replica !== null) {
    await ensureTokenFile(auth, walToken, `the WAL of ${name}`, { scope: "read", tenant, timeline });
  }
  return token;
}

/** Revokes a compute's tokens. */
export async function dropComputeTokens({ paths }: Environment, compute: ComputePaths): Promise<void> {
  for (const file of [compute.token, compute.walToken]) await dropTokenFile(paths.auth, file);
}
