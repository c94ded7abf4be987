/** `zenith init`: creates an environment. */
import { resolve } from "node:path";
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { ioError, ZenithError } from "../../common/errors.ts";
import { formatHostPort, type HostPort, parseHostPort } from "../../common/host_port.ts";
import { generateTenantId, parseTenantId, type TenantId } from "../../common/id.ts";
import { PAGESERVER_DEFAULT_LISTEN } from "../../common/page_server_config.ts";
import { EnvironmentPaths } from "../../common/paths.ts";
import {
  type Environment,
  newEnvironmentRoot,
  pageServerAddress,
  parsePageServerUrl,
  saveEnvironment,
  withAdminToken,
} from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { ensureServerTokens, keepGivenAuthority, keepGivenToken } from "../../control/server_tokens.ts";
import { startPageServer, stopPageServer } from "../../control/page_server_process.ts";
import { setObjectStore } from "../../control/object_store_setting.ts";
import { portsOfOtherEnvironments } from "../../control/computes.ts";
import { rememberEnvironment } from "../../control/known_environments.ts";
import { allocatePort, portsFrom, whyNotFree } from "../../control/ports.ts";
import { SAFEKEEPER_FIRST_PORT } from "../../control/safekeepers.ts";
import { probeObjectStore } from "../../object_store/open_store.ts";
import type { ObjectStore } from "../../object_store/object_store.ts";
import { openEncryptedStore } from "../../pageserver/remote/encrypted_store.ts";
import { findNewestPostgres, findPostgres, type PostgresInstall } from "../../pg_install/find_postgres.ts";
import type { ClusterOptions } from "../../pg_install/initdb.ts";
import { assertReachable, pgUser } from "../../pg_install/pg_user.ts";
import {
  CLUSTER_OPTIONS,
  type Command,
  JSON_OPTION,
  optionCluster,
  optionPgVersion,
  optionText,
  type OptionValues,
  PG_VERSION_OPTION,
} from "../cli/command.ts";
import { Interruption } from "../cli/interruption.ts";
import { print, printJson, Progress } from "../cli/output.ts";
import { chooseStoredTenants, restoreTenants } from "./from_store.ts";
import { chooseKeyFile, KEY_FILE_OPTION } from "./store_key.ts";

export const initCommand: Command = {
  usage: "init",
  description: "Make an environment in $ZENITH_REPO_DIR or ./.zenith, with a first tenant",
  options: [
    { flags: "--tenantid <id>", description: "The first tenant's id; random when left out" },
    {
      flags: "--pg-distrib-dir <dir>",
      description: "The PostgreSQL to use: the directory above its bin/, or above a directory for each major",
    },
    PG_VERSION_OPTION,
    ...CLUSTER_OPTIONS,
    {
      flags: "--remote-pageserver <url>",
      description: "Use the page server at postgres://host:port instead of one of our own",
    },
    {
      flags: "--token <file>",
      description: "A token for that page server, which its environment's `token create` has made",
    },
    {
      flags: "--ca <file>",
      description: "The certificate of its authority: auth/tls/ca.pem of its environment",
    },
    {
      flags: "--name <host>",
      description: "What clients on other machines call this one; may be repeated",
      multiple: true,
    },
    {
      flags: "--insecure",
      description: "Let everybody on this machine do everything, without tokens; on loopback only",
    },
    {
      flags: "--listen <host:port>",
      description:
        `Where our own page server is to listen; ${PAGESERVER_DEFAULT_LISTEN} or the next free port when left out`,
    },
    {
      flags: "--safekeepers <n>",
      description: "How many safekeepers make commits durable: 1 (when left out), 3 or 5; with 0 the page " +
        "server does, as by default a remote one",
    },
    {
      flags: "--object-store <url>",
      description: "Upload everything to s3://bucket/prefix?endpoint=…&region=… or file:///path",
    },
    {
      flags: "--from <url>",
      description: "Take all tenants over from that object store, in place of a new one, and upload to it",
    },
    KEY_FILE_OPTION,
    JSON_OPTION,
  ],
  examples: [
    ["init", "./.zenith, a page server on port 64000, one safekeeper"],
    ["init --pg-version 17", "PostgreSQL 17 for the first tenant; others may have other majors"],
    ["init --safekeepers 3", "A quorum: commits go on when one of the three is away"],
    [
      "init --remote-pageserver postgres://db1:64000 --token tenant.token",
      "Only computes here, on another environment's page server",
    ],
    ["init --object-store s3://backups/edge1?region=eu-west-1", "A lost disk costs a second of commits"],
    ["init --from s3://backups/edge1?region=eu-west-1", "That host was lost: go on here"],
    ["init --from file:///mnt/nas/zenith --key-file edge1.key", "The same when it is encrypted"],
  ],
  async run(_args, options) {
    const made = await makeEnvironment(options);
    if (options["json"] === true) return printJson(made.json);
    print(made.said);
    if (made.canStart) print('next: "zenith start"');
  },
};

/** What `init` has made. */
interface Made {
  readonly json: {
    readonly directory: string;
    readonly tenant_id: TenantId;
    readonly pg_version: number | null;
  };
  /** The same for a person. */
  readonly said: string;
  /** Whether it has servers of its own. */
  readonly canStart: boolean;
}

/** Does what {@link initCommand} does, with its options. */
export async function makeEnvironment(options: OptionValues): Promise<Made> {
  const tenantOption = optionText(options, "tenantid");
  const asked = tenantOption === undefined ? undefined : parseTenantId(tenantOption);
  const remote = optionText(options, "remotePageserver");
  const distribDir = optionText(options, "pgDistribDir");
  // Users of a shared remote page server must also share its timelines' safekeepers, and must
  // configure them explicitly.
  const count = optionText(options, "safekeepers") ?? (remote === undefined ? "1" : "0");
  const root = newEnvironmentRoot();
  const others = portsOfOtherEnvironments(root);
  const safekeepers = await safekeeperConfig(count, others);
  if (remote !== undefined) parsePageServerUrl(remote);
  const listen = remote === undefined ? await chooseListen(optionText(options, "listen"), others) : "";
  const names = optionText(options, "name");
  const major = optionPgVersion(options);
  const storage = await chooseObjectStore(options, remote !== undefined);
  const stored = storage?.isSource === true ? await chooseStoredTenants(storage.store, asked) : null;
  const tenant = stored?.first ?? asked ?? generateTenantId();
  const install = choosePostgres(major, distribDir);

  const paths = new EnvironmentPaths(root);
  const environment: Environment = {
    paths,
    config: {
      default_tenant_id: tenant,
      ...(distribDir === undefined ? {} : { pg_distrib_dir: resolve(distribDir) }),
      pageserver: remote === undefined ? { listen } : { url: remote },
      ...(options["insecure"] === true ? { insecure: true } : {}),
      ...(names === undefined ? {} : { tls: { names: names.split("\n") } }),
      ...(safekeepers.length === 0 ? {} : { safekeepers }),
    },
  };
  const existed = existsSync(paths.root);
  makeEmptyDirectory(paths.root);
  using interruption = new Interruption("nothing was made, and nothing is left running");
  try {
    assertReachable(paths.root, pgUser());
    if (storage !== null) setObjectStore(paths.pageserver, storage);
    const token = optionText(options, "token");
    if (token !== undefined) keepGivenToken(environment, token);
    const ca = optionText(options, "ca");
    if (ca !== undefined) keepGivenAuthority(environment, ca);
    if (remote === undefined && options["insecure"] !== true) await ensureServerTokens(environment);
    // A remote page server chooses among its own PostgreSQL installations.
    const chosen = remote === undefined ? install.major : major;
    if (storage !== null && stored !== null) {
      await restoreTenants(storage.store, paths.pageserver, stored.all, tenant);
      interruption.throwIfAsked();
    } else {
      await createFirstTenant(
        environment,
        { major: chosen, cluster: optionCluster(options) },
        interruption,
      );
    }
    saveEnvironment(environment);
    rememberEnvironment(environment);
  } catch (error) {
    // Half an environment is worse than none. Remove it, so that the next attempt starts from
    // scratch.
    for (const name of readdirSync(paths.root)) {
      rmSync(`${paths.root}/${name}`, { recursive: true, force: true });
    }
    if (!existed) rmSync(paths.root, { recursive: true, force: true });
    throw error;
  }
  return {
    json: {
      directory: paths.root,
      tenant_id: tenant,
      pg_version: remote === undefined && stored === null ? install.major : null,
    },
    said: `created ${paths.root} with tenant ${tenant}, ` +
      `PostgreSQL ${install.version} from ${install.distribDir}` +
      (storage?.saidOfKey === undefined ? "" : `\n${storage.saidOfKey}`),
    canStart: remote === undefined,
  };
}

interface ChosenStore {
  readonly url: string;
  readonly store: ObjectStore;
  readonly keyFile: string | undefined;
  /** What a person should know of the key. Undefined without one. */
  readonly saidOfKey: string | undefined;
  /** Whether the tenants come from there. */
  readonly isSource: boolean;
}

/**
 * Opens the object store that the options name, and checks that it can be used.
 *
 * @throws {ZenithError} `invalid_argument`, and what the store can't do
 */
async function chooseObjectStore(options: OptionValues, isRemote: boolean): Promise<ChosenStore | null> {
  const target = optionText(options, "objectStore");
  const source = optionText(options, "from");
  const url = source ?? target;
  if (url === undefined) {
    if (optionText(options, "keyFile") === undefined) return null;
    throw new ZenithError("invalid_argument", "--key-file is for an object store, and none is named", {
      hint: "name it with --object-store or --from",
    });
  }
  if (source !== undefined && target !== undefined) {
    throw new ZenithError("invalid_argument", "--from and --object-store exclude each other", {
      hint: "with --from, uploads go on to the store that the tenants came from",
    });
  }
  if (isRemote) {
    throw new ZenithError("invalid_argument", "a remote page server has an object store of its own choice", {
      hint: "set it there",
    });
  }
  const key = chooseKeyFile(options, source === undefined ? "make" : "refuse");
  const store = openEncryptedStore(url, key?.path ?? null);
  await probeObjectStore(store);
  return { url, store, keyFile: key?.path, saidOfKey: key?.said, isSource: source !== undefined };
}

/**
 * @throws {ZenithError} `not_found`; `invalid_argument` when `distribDir` does not contain `major`
 */
function choosePostgres(major: number | undefined, distribDir: string | undefined): PostgresInstall {
  if (major === undefined) return findNewestPostgres({ distribDir });
  const install = findPostgres(major, { distribDir });
  if (distribDir === undefined || install.source === "configured") return install;
  throw new ZenithError("invalid_argument", `${distribDir} has no PostgreSQL ${major}`, {
    hint: "leave out --pg-distrib-dir or --pg-version, or name what belongs together",
  });
}

/**
 * @param asked the address that the user asked for, if any
 * @param others the ports of other environments
 * @throws {ZenithError} `conflict` when another program listens there, `invalid_argument`
 */
async function chooseListen(asked: string | undefined, others: ReadonlySet<number>): Promise<string> {
  const { host, port } = parseHostPort(asked ?? PAGESERVER_DEFAULT_LISTEN);
  if (asked === undefined) {
    return formatHostPort({ host, port: await allocatePort(others, portsFrom(port), host) });
  }
  const taken = await whyNotFree({ host, port });
  if (taken === undefined) return asked;
  throw new ZenithError("conflict", `${asked} ${taken}`, {
    hint: "name another address with --listen, or leave it out for a free one",
  });
}

/**
 * Allows only 0, 1, 3 or 5. An even number of safekeepers is less available than the odd number
 * below it, and keeps data no safer.
 */
async function safekeeperConfig(
  count: string,
  others: ReadonlySet<number>,
): Promise<{ id: number; listen: string }[]> {
  if (!["0", "1", "3", "5"].includes(count)) {
    throw new ZenithError("invalid_argument", `--safekeepers is "${count}": expected 0, 1, 3 or 5`);
  }
  const ports = new Set<number>();
  while (ports.size < Number(count)) {
    ports.add(await allocatePort(new Set([...ports, ...others]), portsFrom(SAFEKEEPER_FIRST_PORT)));
  }
  return [...ports].map((port, i) => ({ id: i + 1, listen: formatHostPort({ host: "127.0.0.1", port }) }));
}

function makeEmptyDirectory(root: string): void {
  const hint = "choose another place with ZENITH_REPO_DIR";
  try {
    mkdirSync(root, { recursive: true, mode: 0o755 });
    if (readdirSync(root).length === 0) return;
  } catch (error) {
    const { kind, message } = ioError("make the environment in", root, error);
    throw new ZenithError(kind, message, { hint: `make it possible, or ${hint}`, cause: error });
  }
  throw new ZenithError("already_exists", `${root} already exists and is not empty`, {
    hint: `remove it, or ${hint}`,
  });
}

interface FirstTenant {
  readonly major: number | undefined;
  readonly cluster: ClusterOptions;
}

/**
 * Creates the first tenant. A local page server runs only for this, on any free port, so that
 * `init` disturbs no other server.
 */
async function createFirstTenant(
  environment: Environment,
  first: FirstTenant,
  interruption: Interruption,
): Promise<void> {
  using progress = new Progress("creating the first tenant");
  if (!("listen" in environment.config.pageserver)) {
    await createTenant(environment, pageServerAddress(environment), first);
    return;
  }
  const { address } = await startPageServer(environment, {
    listen: "127.0.0.1:0",
    onProgress: (text) => progress.update(text),
  });
  try {
    interruption.throwIfAsked();
    if (address === undefined) {
      throw new ZenithError("protocol", "the page server did not say where it listens");
    }
    await createTenant(environment, address, first);
    interruption.throwIfAsked();
  } finally {
    await stopPageServer(environment, "fast");
  }
}

async function createTenant(
  environment: Environment,
  address: HostPort,
  { major, cluster }: FirstTenant,
): Promise<void> {
  await using client = new PageServerClient(withAdminToken(environment, address));
  try {
    await client.tenantCreate(environment.config.default_tenant_id, major, cluster);
  } catch (error) {
    if (!(error instanceof ZenithError) || error.kind !== "already_exists") throw error;
    throw new ZenithError("already_exists", `${error.message} on ${formatHostPort(address)}`, {
      cause: error,
    });
  }
}
