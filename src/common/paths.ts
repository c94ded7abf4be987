/**
 * The only module that knows where things are on disk. It takes parsed ids and names, never raw
 * strings, so no input can escape its directory. `docs/multitenancy.md` shows the resulting tree.
 */
import { basename, dirname, join, resolve } from "node:path";
import { computeFileName, type ComputeName, ownName } from "./compute_name.ts";
import { branchFileName, type BranchName, type TenantId, type TimelineId } from "./id.ts";

/** The suffix of the directory of a tenant that is being created. */
export const TENANT_IN_PROGRESS_SUFFIX = ".creating";

/** The suffix of the directory of a tenant or timeline that is being deleted. */
export const DELETED_SUFFIX = ".deleted";

/** The directory for a timeline's own WAL on a page server, inside the timeline's directory. */
export const TIMELINE_WAL_DIRECTORY = "wal";

/** The file that names the safekeepers of a timeline, inside the timeline's directory. */
export const SAFEKEEPERS_FILE = "safekeepers";

/** A password file of libpq, in the directory of a tenant's computes. */
const PGPASS = "pgpass";
const TENANT_UID = "uid";

/** The file that lists layers which need not be on this disk, inside the timeline's directory. */
export const REMOTE_LAYERS_FILE = "remote_layers";

/** The file that names the primary a timeline follows, inside the timeline's directory. */
export const FOLLOW_FILE = "follow";

/** The file that names the backup a timeline began with, inside the timeline's directory. */
export const MOUNT_FILE = "mount";

/** The file for the state that a safekeeper must not lose, inside the timeline's directory. */
export const CONTROL_FILE = "safekeeper.control";

/** The keys and tokens by which servers and their clients trust each other. */
export class AuthPaths {
  readonly dir: string;

  constructor(dir: string) {
    this.dir = resolve(dir);
  }

  /** The private keys, which sign tokens. Only where tokens are made. */
  get signing(): string {
    return join(this.dir, "signing");
  }
  /** The public keys, which verify tokens. */
  get trusted(): string {
    return join(this.dir, "trusted");
  }
  /** The ids of the tokens that are refused. */
  get revoked(): string {
    return join(this.dir, "revoked");
  }
  /** The tokens that were made, without the tokens themselves. */
  get made(): string {
    return join(this.dir, "made");
  }
  /** Locked while a process makes keys or changes the lists. */
  get lock(): string {
    return join(this.dir, "lock");
  }
  get tokens(): string {
    return join(this.dir, "tokens");
  }
  /** The token for another environment's page server, and its authority's certificate. */
  remote(name: string): { readonly token: string; readonly caCertificate: string } {
    const dir = join(this.dir, "remotes");
    return { token: join(dir, `${name}.token`), caCertificate: join(dir, `${name}.pem`) };
  }
  get tls(): string {
    return join(this.dir, "tls");
  }
  /** The certificate of the authority that clients trust, and its private key. */
  get caCertificate(): string {
    return join(this.tls, "ca.pem");
  }
  get caKey(): string {
    return join(this.tls, "ca.key");
  }
  /** The servers' certificate and its private key. */
  get serverCertificate(): string {
    return join(this.tls, "server.pem");
  }
  get serverKey(): string {
    return join(this.tls, "server.key");
  }
  /** The token of the command line. */
  get adminToken(): string {
    return join(this.tokens, "admin");
  }
  get pageserverToken(): string {
    return join(this.tokens, "pageserver");
  }
  safekeeperToken(id: number): string {
    return join(this.tokens, `safekeeper-${id}`);
  }
}

/** What each tenant may take of a server. */
export class LimitsPaths {
  readonly dir: string;

  constructor(dir: string) {
    this.dir = resolve(dir);
  }

  /** What holds for tenants that have no file of their own, and for what theirs leaves out. */
  get defaults(): string {
    return join(this.dir, "default.toml");
  }
  of(tenant: TenantId): string {
    return join(this.dir, `${tenant}.toml`);
  }
}

/** A page server's working directory. */
export class PageServerPaths {
  readonly workdir: string;

  constructor(workdir: string) {
    this.workdir = resolve(workdir);
  }

  get config(): string {
    return join(this.workdir, "pageserver.toml");
  }
  get pidFile(): string {
    return join(this.workdir, "pageserver.pid");
  }
  get log(): string {
    return join(this.workdir, "pageserver.log");
  }
  /** Who changed what. */
  get auditLog(): string {
    return join(this.workdir, "audit.log");
  }
  get auth(): AuthPaths {
    return new AuthPaths(join(this.workdir, "auth"));
  }
  get limits(): LimitsPaths {
    return new LimitsPaths(join(this.workdir, "limits"));
  }
  /** The result of initdb that every new tenant starts from. */
  get initdbCache(): string {
    return join(this.workdir, "initdb-cache");
  }
  /** The list of tenants that were deleted on purpose. */
  get deletedTenants(): string {
    return join(this.workdir, "deleted_tenants");
  }
  /** The list of timelines that were deleted on purpose. */
  get deletedTimelines(): string {
    return join(this.workdir, "deleted_timelines");
  }
  get tenants(): string {
    return join(this.workdir, "tenants");
  }
  /** Which generation of each tenant in the object store is this page server's. */
  get attachments(): string {
    return join(this.workdir, "attachments");
  }
  /** Parts of layers that the object store has. They can all be fetched again. */
  get chunkCache(): string {
    return join(this.workdir, "chunks");
  }
  attachment(tenant: TenantId): string {
    return join(this.attachments, tenant);
  }
  tenant(tenant: TenantId): string {
    return join(this.tenants, tenant);
  }
  /** A tenant that is being created. Renamed to {@link tenant} when it is complete. */
  tenantInProgress(tenant: TenantId): string {
    return join(this.tenants, `${tenant}${TENANT_IN_PROGRESS_SUFFIX}`);
  }
  /** A tenant that was {@link tenant} until it was deleted. */
  deletedTenant(tenant: TenantId): string {
    return join(this.tenants, `${tenant}${DELETED_SUFFIX}`);
  }
  tenantConfig(tenant: TenantId): string {
    return join(this.tenant(tenant), "config.toml");
  }
  branches(tenant: TenantId): string {
    return join(this.tenant(tenant), "branches");
  }
  branch(tenant: TenantId, branch: BranchName): string {
    return join(this.branches(tenant), branchFileName(branch));
  }
  timelines(tenant: TenantId): string {
    return join(this.tenant(tenant), "timelines");
  }
  timeline(tenant: TenantId, timeline: TimelineId): string {
    return join(this.timelines(tenant), timeline);
  }
  /** The timeline's own WAL, from a point that its layers may not have reached yet. */
  timelineWal(tenant: TenantId, timeline: TimelineId): string {
    return join(this.timeline(tenant, timeline), TIMELINE_WAL_DIRECTORY);
  }
  /** The LSNs of a timeline that must stay readable. */
  leases(tenant: TenantId, timeline: TimelineId): string {
    return join(this.timeline(tenant, timeline), "leases");
  }
  /** The safekeepers that have the timeline's WAL. */
  timelineSafekeepers(tenant: TenantId, timeline: TimelineId): string {
    return join(this.timeline(tenant, timeline), SAFEKEEPERS_FILE);
  }
  /** A timeline's configuration, with all its versions. */
  timelineSettings(tenant: TenantId, timeline: TimelineId): string {
    return join(this.timeline(tenant, timeline), "settings");
  }
  /** A timeline's replication slots. */
  timelineSlots(tenant: TenantId, timeline: TimelineId): string {
    return join(this.timeline(tenant, timeline), "slots");
  }
  /** The foreign primary that a timeline follows. */
  timelineFollow(tenant: TenantId, timeline: TimelineId): string {
    return join(this.timeline(tenant, timeline), FOLLOW_FILE);
  }
  /** The backup that a timeline began with, while not all of it is copied. */
  timelineMount(tenant: TenantId, timeline: TimelineId): string {
    return join(this.timeline(tenant, timeline), MOUNT_FILE);
  }
  /** A timeline that was {@link timeline} until it was deleted with its branch. */
  deletedTimeline(tenant: TenantId, timeline: TimelineId): string {
    return join(this.timelines(tenant), `${timeline}${DELETED_SUFFIX}`);
  }
}

/** A safekeeper's working directory. */
export class SafekeeperPaths {
  readonly workdir: string;

  constructor(workdir: string) {
    this.workdir = resolve(workdir);
  }

  get config(): string {
    return join(this.workdir, "safekeeper.toml");
  }
  get pidFile(): string {
    return join(this.workdir, "safekeeper.pid");
  }
  get log(): string {
    return join(this.workdir, "safekeeper.log");
  }
  /** Who changed what. */
  get auditLog(): string {
    return join(this.workdir, "audit.log");
  }
  get auth(): AuthPaths {
    return new AuthPaths(join(this.workdir, "auth"));
  }
  get limits(): LimitsPaths {
    return new LimitsPaths(join(this.workdir, "limits"));
  }
  tenant(tenant: TenantId): string {
    return join(this.workdir, tenant);
  }
  timeline(tenant: TenantId, timeline: TimelineId): string {
    return join(this.tenant(tenant), timeline);
  }
  /** A timeline that was {@link timeline} until it was deleted. */
  deletedTimeline(tenant: TenantId, timeline: TimelineId): string {
    return join(this.tenant(tenant), `${timeline}${DELETED_SUFFIX}`);
  }
  controlFile(tenant: TenantId, timeline: TimelineId): string {
    return join(this.timeline(tenant, timeline), CONTROL_FILE);
  }
  /** The slots of its standbys. */
  standbySlots(tenant: TenantId, timeline: TimelineId): string {
    return join(this.timeline(tenant, timeline), "standby_slots");
  }
  /** Where PostgreSQL's timelines begin in the WAL. */
  walTimelines(tenant: TenantId, timeline: TimelineId): string {
    return join(this.timeline(tenant, timeline), "wal_timelines");
  }
}

/** A local environment: `zenith init` creates it, and every other command works in it. */
export class EnvironmentPaths {
  readonly root: string;

  constructor(root: string) {
    this.root = resolve(root);
  }

  get config(): string {
    return join(this.root, "config");
  }
  /** The page server shares the environment's root, so that its data is `<root>/tenants`. */
  get pageserver(): PageServerPaths {
    return new PageServerPaths(this.root);
  }
  get auth(): AuthPaths {
    return this.pageserver.auth;
  }
  /** Each safekeeper that ever existed has a directory here, named by its number. */
  get safekeepers(): string {
    return join(this.root, "safekeepers");
  }
  safekeeper(id: number): SafekeeperPaths {
    return new SafekeeperPaths(join(this.safekeepers, String(id)));
  }
  computes(tenant: TenantId): string {
    return join(this.root, "pgdatadirs", "tenants", tenant);
  }
  /** The passwords of the roles that Zenith keeps in the tenant's Postgres. */
  pgpass(tenant: TenantId): string {
    return join(this.computes(tenant), PGPASS);
  }
  /** The number of the operating system user that only this tenant's Postgres run as. */
  tenantUid(tenant: TenantId): string {
    return join(this.computes(tenant), TENANT_UID);
  }
  /** Locked while a process creates a compute. */
  get computesLock(): string {
    return join(this.root, "pgdatadirs", "lock");
  }
  /** The computes that are being started, and those that wait for it, in order. */
  get startQueue(): string {
    return join(this.root, "pgdatadirs", "starting");
  }
  /** Supervisors whose compute was stopped wait here for the next start. */
  get spares(): string {
    return join(this.root, "pgdatadirs", "spares");
  }
  /** What `zenith serve` keeps: its process, its log, what it remembers, who changed what. */
  get servePidFile(): string {
    return join(this.root, "serve.pid");
  }
  /** A directory for each PgBouncer that `zenith serve` has started. */
  get poolers(): string {
    return join(this.root, "poolers");
  }
  get serveState(): string {
    return join(this.root, "serve.db");
  }
  /** The key of what is encrypted in there. */
  get serveKey(): string {
    return join(this.auth.tokens, "serve.key");
  }
  get serveAuditLog(): string {
    return join(this.root, "serve_audit.log");
  }
  get computeTenants(): string {
    return join(this.root, "pgdatadirs", "tenants");
  }
  /** @param name a branch, for its own compute, or the name of any compute */
  compute(tenant: TenantId, name: BranchName | ComputeName): ComputePaths {
    const compute = typeof name === "string" ? ownName(name) : name;
    return new ComputePaths(join(this.computes(tenant), computeFileName(compute)));
  }
  /**
   * The directory where process `pid` creates a {@link compute}. No branch name begins with a dot.
   */
  computeInProgress(tenant: TenantId, name: ComputeName, pid: number): ComputePaths {
    return new ComputePaths(join(this.computes(tenant), `.${computeFileName(name)}.${pid}`));
  }
}

/**
 * The process that was removing a compute, by the name that {@link ComputePaths.removed} gives it.
 */
export function removerOf(directoryName: string): number | undefined {
  const match = /^\..*\.removed\.(\d+)$/.exec(directoryName);
  return match === null ? undefined : Number(match[1]);
}

/** One compute: its Postgres data directory and what its supervisor keeps beside it. */
export class ComputePaths {
  readonly dir: string;

  constructor(dir: string) {
    this.dir = resolve(dir);
  }

  /**
   * Where process `pid` moves the compute before removing it, so that nobody finds half of it. No
   * compute has such a name.
   */
  removed(pid: number): string {
    return join(dirname(this.dir), `.${basename(this.dir)}.removed.${pid}`);
  }
  /** The environment that a compute made by `zenith` belongs to. */
  get environmentRoot(): string {
    return join(this.dir, "..", "..", "..", "..");
  }
  /** Exists once the compute's branch was deleted, so that what is left of it is on its way out. */
  get deleted(): string {
    return join(this.dir, "deleted");
  }
  /**
   * Postgres's data directory. Every start keeps the files that the user may edit here:
   * postgresql.conf, pg_hba.conf and postgresql.auto.conf.
   */
  get pgdata(): string {
    return join(this.dir, "pgdata");
  }
  /**
   * The compute's own configuration, apart from its branch's: which compute it is and where it
   * listens.
   */
  get config(): string {
    return join(this.dir, "compute.conf");
  }
  get pidFile(): string {
    return join(this.dir, "compute.pid");
  }
  get log(): string {
    return join(this.dir, "compute.log");
  }
  /** A replica's token for nothing but its branch's WAL: its Postgres has it. */
  get walToken(): string {
    return join(this.dir, "wal_token");
  }
  /** The compute's token, by which it proves to servers which timeline is its own. */
  get token(): string {
    return join(this.dir, "token");
  }
  /** The Unix socket's directory. It is separate because every start empties the data directory. */
  get socketDir(): string {
    return join(this.dir, "run");
  }
  /** The passwords of the roles that Zenith keeps, for all computes of the tenant. */
  get pgpass(): string {
    return join(dirname(this.dir), PGPASS);
  }
  /** The operating system user of all computes of the tenant, if it has one of its own. */
  get tenantUid(): string {
    return join(dirname(this.dir), TENANT_UID);
  }
  get postgresLog(): string {
    return join(this.dir, "postgres.log");
  }
  /** The compute's problems, recorded while it runs. */
  get conditions(): string {
    return join(this.dir, "conditions");
  }
  /** Says where the branch is masked, once it is. */
  get masked(): string {
    return join(this.dir, "masked");
  }
  /** The branch settings that the compute's configuration files were made from. */
  get settingsBase(): string {
    return join(this.dir, "settings_base");
  }
  /** Whether the compute should be running, and why its last start failed. */
  get lastStart(): string {
    return join(this.dir, "last_start");
  }
  /** The WAL directory of the Postgres before, until a start has made what it needs of it. */
  get leftWal(): string {
    return join(this.dir, "left_wal");
  }
  /** The pages that the compute used before its last stop. */
  get hotPages(): string {
    return join(this.dir, "hot_pages");
  }
  /** An eager compute's data of tablespaces whose locations it covers, by OID. */
  get tablespaces(): string {
    return join(this.dir, "tablespaces");
  }
  /** The locations where this compute's Postgres sees something else than other processes do. */
  get coveredLocations(): string {
    return join(this.dir, "covered_locations");
  }
  /** Where relation files are mounted when they are fetched page by page. */
  get mount(): string {
    return join(this.dir, "mount");
  }
  /** The data that this compute has written to the files at {@link mount}, or kept from them. */
  get overlay(): string {
    return join(this.dir, "overlay");
  }
}
