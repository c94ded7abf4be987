/**
 * Finds, loads and saves a local environment: the directory that `zenith init` creates, and its
 * `config`.
 */
import { accessSync, constants, existsSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import {
  array,
  boolean,
  check,
  type InferOutput,
  integer,
  minValue,
  number,
  optional,
  picklist,
  pipe,
  record,
  strictObject,
  string,
  transform,
  union,
} from "valibot";
import { systemErrorCode, ZenithError } from "../common/errors.ts";
import { type HostPort, parseHostPort } from "../common/host_port.ts";
import { type BranchName, parseBranchName, parseTenantId, type TenantId } from "../common/id.ts";
import { AddressSchema, PAGESERVER_DEFAULT_LISTEN } from "../common/page_server_config.ts";
import { EnvironmentPaths } from "../common/paths.ts";
import { userName } from "../pg_install/pg_user.ts";
import type { ServerAddress } from "../protocol/connect.ts";
import { parseUidRange } from "../common/uid_range.ts";
import { readTomlFile, writeTomlFile } from "../common/toml.ts";

const LocalPageServerSchema = strictObject({
  /** Where this environment's own page server listens. */
  listen: AddressSchema,
  /** Where others listen that share tenants with it. */
  others: optional(array(AddressSchema)),
});

const RemotePageServerSchema = strictObject({
  /** `postgres://host:port` of a page server that this environment does not run. */
  url: string(),
});

const ConfigSchema = strictObject({
  default_tenant_id: pipe(string(), transform(parseTenantId)),
  /** The default tenant's branch for commands that name none. Defaults to main. */
  default_branch: optional(pipe(string(), transform(parseBranchName))),
  pg_distrib_dir: optional(string()),
  /** Operating system users, one for each tenant, when Zenith runs as root: `200000-209999`. */
  tenant_uids: optional(pipe(
    string(),
    check((text) => parseUidRange(text) !== undefined, "expected a range of users such as 200000-209999"),
  )),
  pageserver: union([LocalPageServerSchema, RemotePageServerSchema], "expected either listen or url"),
  /** The environment's safekeepers, which make commits durable. With none, the page server does. */
  safekeepers: optional(pipe(
    array(strictObject({ id: pipe(number(), integer(), minValue(1)), listen: AddressSchema })),
    check((all) => new Set(all.map(({ id }) => id)).size === all.length, "two safekeepers have one id"),
    check(
      (all) => new Set(all.map(({ listen }) => listen)).size === all.length,
      "two safekeepers listen on one port",
    ),
  )),
  /** Page servers of other environments, by name. */
  remotes: optional(record(
    string(),
    strictObject({
      /** `postgres://host:port`. */
      url: string(),
    }),
  )),
  /** Whether the servers let everybody do everything. They listen on loopback only then. */
  insecure: optional(boolean()),
  tls: optional(strictObject({
    /** What else than the addresses where they listen clients call the servers. */
    names: optional(array(string())),
    /** Certificates from elsewhere, as PEM files: the servers', its key, and whom clients trust. */
    cert: optional(string()),
    key: optional(string()),
    ca: optional(string()),
  })),
  compute: optional(strictObject({
    /**
     * How a compute fetches relation files: all at its start, or page by page on the first read.
     */
    storage: optional(picklist(["auto", "lazy", "eager"]), "auto"),
    /**
     * The disk space for a lazy compute's overlay, in MiB. Fetched pages are evicted to stay below
     * it; written pages are not.
     */
    overlay_max_mb: optional(pipe(number(), integer(), minValue(1))),
    /**
     * The directory of a control group (version 2). Each Postgres gets one of its own below it,
     * with these limits.
     */
    cgroup: optional(pipe(string(), check((path) => path.startsWith("/"), "expected an absolute path"))),
    memory_max_mb: optional(pipe(number(), integer(), minValue(1))),
    /** In cores. */
    cpus: optional(pipe(number(), minValue(0.01))),
    processes_max: optional(pipe(number(), integer(), minValue(1))),
    /**
     * Whether a lazy compute fetches the pages that were hot at its last stop, in the background
     * after its start.
     */
    prewarm: optional(boolean()),
    /**
     * Whether a supervisor whose compute was stopped waits some minutes for the next start, so that
     * that one is quicker.
     */
    spares: optional(boolean()),
    /** Whether a supervisor that nobody needs yet waits too, so that every start finds one. */
    spares_ahead: optional(boolean()),
  })),
});

export type EnvironmentConfig = InferOutput<typeof ConfigSchema>;

export interface Environment {
  readonly paths: EnvironmentPaths;
  readonly config: EnvironmentConfig;
}

const CONFIG_COMMENT = "A Zenith environment, made by `zenith init`.";

type Variables = Readonly<Record<string, string | undefined>>;

const ROOT_NAME = ".zenith";

function configuredRoot(env: Variables): string | undefined {
  const dir = env["ZENITH_REPO_DIR"];
  return dir === undefined || dir === "" ? undefined : dir;
}

/**
 * Returns where `init` creates an environment: `$ZENITH_REPO_DIR`, else `.zenith` in the working
 * directory.
 */
export function newEnvironmentRoot(env: Variables = process.env): string {
  return configuredRoot(env) ?? join(process.cwd(), ROOT_NAME);
}

/**
 * Returns where the environment is: `$ZENITH_REPO_DIR`, else the nearest `.zenith` from the working
 * directory upward, the way git finds a repository. If there is none, returns where `init` would
 * create one.
 */
export function environmentRoot(env: Variables = process.env): string {
  const configured = configuredRoot(env);
  if (configured !== undefined) return configured;
  for (let dir = process.cwd();; dir = dirname(dir)) {
    const root = join(dir, ROOT_NAME);
    if (existsSync(root)) return root;
    if (dir === dirname(dir)) return newEnvironmentRoot(env);
  }
}

/**
 * @throws {ZenithError} `not_found` when there is none, `invalid_argument` when its config is wrong
 */
export function loadEnvironment(root: string = environmentRoot()): Environment {
  const paths = new EnvironmentPaths(root);
  if (!existsSync(paths.config)) {
    if (existsSync(paths.pageserver.tenants)) {
      throw new ZenithError("not_found", `${paths.config} is missing, what it belongs to is still there`, {
        hint: 'put it back, or write it anew: default_tenant_id = "<a name in tenants/>", and ' +
          `[pageserver] with listen = "${PAGESERVER_DEFAULT_LISTEN}"`,
      });
    }
    throw new ZenithError("not_found", `there is no Zenith environment in ${paths.root}`, {
      hint: 'run "zenith init" there, go to where one is, or set ZENITH_REPO_DIR',
    });
  }
  const environment = { paths, config: readTomlFile(paths.config, ConfigSchema) };
  assertIsOurs(environment);
  return environment;
}

/**
 * Without the tokens of an environment there is nothing that a command can do there. The first file
 * that can't be read would not tell why.
 */
function assertIsOurs({ paths, config }: Environment): void {
  if (config.insecure === true) return;
  try {
    accessSync(paths.auth.adminToken, constants.R_OK);
  } catch (error) {
    // A user whom the operating system gives no way in, as opposed to one who has no token yet.
    if (systemErrorCode(error) !== "EACCES") return;
    const { uid } = statSync(paths.root);
    const owner = userName(uid) ?? `the user ${uid}`;
    throw new ZenithError("forbidden", `${paths.root} is an environment of ${owner}`, {
      hint: `be ${owner} to use it, or make one of your own elsewhere with "zenith init"`,
      cause: error,
    });
  }
}

export function saveEnvironment(environment: Environment): void {
  writeTomlFile(environment.paths.config, CONFIG_COMMENT, environment.config);
}

/** The tenant that a command applies to: `--tenantid`, else the environment's default. */
export function chooseTenant(environment: Environment, tenantid: string | undefined): TenantId {
  return tenantid === undefined ? environment.config.default_tenant_id : parseTenantId(tenantid);
}

const MAIN = parseBranchName("main");

/** The branch for a command that names none. */
export function defaultBranch({ config }: Environment, tenant: TenantId): BranchName {
  return tenant === config.default_tenant_id ? config.default_branch ?? MAIN : MAIN;
}

/** Sets the default tenant's default branch. @throws {ZenithError} `io` */
export function setDefaultBranch({ paths, config }: Environment, branch: BranchName): void {
  saveEnvironment({ paths, config: { ...config, default_branch: branch === MAIN ? undefined : branch } });
}

/**
 * Makes a tenant the default one, with the branch for commands that name none. @throws
 * {ZenithError} `io`
 */
export function setDefaultTenant(
  { paths, config }: Environment,
  tenant: TenantId,
  branch: BranchName,
): void {
  const default_branch = branch === MAIN ? undefined : branch;
  saveEnvironment({ paths, config: { ...config, default_tenant_id: tenant, default_branch } });
}

/** Whether this environment runs a page server of its own. */
export function hasLocalPageServer(environment: Environment): boolean {
  return "listen" in environment.config.pageserver;
}

/** The page server's address. */
export function pageServerAddress(environment: Environment): ServerAddress {
  const { pageserver } = environment.config;
  if ("listen" in pageserver) {
    const { listen, others = [] } = pageserver;
    return amongOthers(withAdminToken(environment, parseHostPort(listen)), others.map(parseHostPort));
  }
  const [first, ...others] = parsePageServerUrl(pageserver.url);
  return amongOthers(withAdminToken(environment, first!), others);
}

function amongOthers(address: ServerAddress, others: readonly HostPort[]): ServerAddress {
  return others.length === 0 ? address : { ...address, others };
}

/** The certificates by which servers on other machines are recognized. */
export function authorityFile({ paths, config }: Environment): string {
  return config.tls?.ca ?? paths.auth.caCertificate;
}

/** A server's address for the command line, which proves itself by the environment's own token. */
export function withAdminToken({ paths, config }: Environment, { host, port }: HostPort): ServerAddress {
  return {
    host,
    port,
    credentials: { tokenFile: paths.auth.adminToken, caFile: authorityFile({ paths, config }) },
  };
}

const PAGESERVER_DEFAULT_PORT = 64000;

/**
 * Parses `postgres://host[:port]`, with commas between several that share tenants.
 *
 * @throws {ZenithError} `invalid_argument`
 */
export function parsePageServerUrl(text: string): HostPort[] {
  const match = /^postgres(?:ql)?:\/\/([^/?@]+)\/?$/.exec(text);
  if (match === null) {
    throw new ZenithError(
      "invalid_argument",
      `"${text}" is not a page server's URL: expected postgres://host:port`,
    );
  }
  return match[1]!.split(",").map((one) =>
    parseHostPort(/:\d+$/.test(one) ? one : `${one}:${PAGESERVER_DEFAULT_PORT}`)
  );
}
