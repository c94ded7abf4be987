/**
 * A Zenith of a test's own: a temporary directory, free ports, real processes. `await using` it, so that all of it is
 * gone when the test is over, however it ends. `ZENITH_TEST_KEEP=1` leaves directories behind to be looked at.
 */
import { chmodSync, chownSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { formatHostPort, type HostPort } from "../../src/common/host_port.ts";
import { parseBranchName, parseTenantId, type TenantId } from "../../src/common/id.ts";
import { type ComputePaths, EnvironmentPaths, type SafekeeperPaths } from "../../src/common/paths.ts";
import { checkPidFile, isRunning } from "../../src/process/pid_file.ts";
import { findSpares, type FoundSpare } from "../../src/process/spare_slots.ts";
import { postmasterPid } from "../../src/compute/postgres/postgres_process.ts";
import { connectionEnvironment } from "../../src/compute/postgres/postgres_conf.ts";
import { withPassword } from "../../src/compute/postgres/role_passwords.ts";
import { removeLazyStorage } from "../../src/compute/lazy/remove_lazy_storage.ts";
import { parseStorageChoice, type StorageChoice } from "../../src/compute/storage.ts";
import { untilBranchEndArrived } from "../../src/control/branch_end.ts";
import { allComputePlaces, listDeletions } from "../../src/control/compute_places.ts";
import { type Environment, loadEnvironment, saveEnvironment } from "../../src/control/environment.ts";
import { PageServerClient } from "../../src/control/page_server_client.ts";
import {
  listSafekeepers,
  type SafekeeperInfo,
  safekeeperStatus,
  type SafekeeperTimelineStatus,
} from "../../src/control/safekeepers.ts";
import { ensureServerTokens } from "../../src/control/server_tokens.ts";
import { chownRecursive } from "../../src/pg_install/pg_user.ts";
import type { ServerAddress } from "../../src/protocol/connect.ts";
import { removeMountsOfDeadRuns } from "./lazy_files.ts";
import { type CliOptions, type CliResult, runZenith } from "./cli.ts";
import { Connection, type ConnectOptions } from "./connection.ts";
import { freePort } from "./ports.ts";
import { TEST_PG_MAJOR } from "./postgres_major.ts";

export interface ZenithEnvOptions {
  /** false leaves the page server stopped. */
  readonly start?: boolean;
  readonly tenant?: string;
  /** The major of its tenants' PostgreSQL: `$ZENITH_TEST_PG_VERSION`, else 15. */
  readonly major?: number;
  /** How its computes get relation files: `$ZENITH_TEST_STORAGE`, else as the product does by itself. */
  readonly storage?: StorageChoice;
  /** Which command line it is, and whose. */
  readonly cli?: CliOptions;
  /** Where its servers listen: 127.0.0.1 unless told otherwise. */
  readonly host?: string;
  /** How many safekeepers: `$ZENITH_TEST_SAFEKEEPERS`, else as the product does by itself. */
  readonly safekeepers?: number;
  /**
   * Whether a supervisor waits ahead of need, as in the product; not unless `$ZENITH_TEST_SPARES_AHEAD` is 1: most environments
   * of tests are not there long enough for what it costs.
   */
  readonly sparesAhead?: boolean;
  /** More for `zenith init`, for example the URL of an object store. */
  readonly init?: readonly string[];
}

function defaultSafekeepers(): number | undefined {
  const text = process.env["ZENITH_TEST_SAFEKEEPERS"];
  return text === undefined || text === "" ? undefined : Number(text);
}

function defaultStorage(): StorageChoice | undefined {
  const text = process.env["ZENITH_TEST_STORAGE"];
  return text === undefined || text === "" ? undefined : parseStorageChoice(text);
}

const living = new Set<ZenithEnv>();

const DIRECTORY_PREFIX = join(tmpdir(), "zenith-env-");
/** Tells which run an environment belongs to. */
const OWN_PREFIX = `${DIRECTORY_PREFIX}${process.pid}-`;

// The last resort, for a test run that ends without having disposed of its environments; and for one that could not even do this.
process.on("exit", () => {
  for (const env of living) env.killEverything();
  removeMountsOfDeadRuns(DIRECTORY_PREFIX);
});
removeMountsOfDeadRuns(DIRECTORY_PREFIX);
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => process.exit(1));

export class ZenithEnv implements AsyncDisposable {
  readonly dir: string;
  readonly pageserver: PageServerHandle;
  readonly safekeepers: SafekeeperHandle[] = [];
  readonly major: number;
  readonly #cli: CliOptions;
  readonly #computes = new Map<string, Compute>();
  #environment: Environment | undefined;

  private constructor(dir: string, address: HostPort, cli: CliOptions, major: number) {
    this.dir = dir;
    this.major = major;
    this.#cli = cli;
    const { auth } = new EnvironmentPaths(join(dir, "repo"));
    this.pageserver = new PageServerHandle(this, {
      ...address,
      credentials: { tokenFile: auth.adminToken, caFile: auth.caCertificate },
    });
  }

  /** Runs `zenith init` and, unless told otherwise, `zenith start`. */
  static async create(options: ZenithEnvOptions = {}): Promise<ZenithEnv> {
    const dir = mkdtempSync(OWN_PREFIX);
    chmodSync(dir, 0o755);
    const { cli = {} } = options;
    if (cli.user !== undefined) chownSync(dir, cli.user.uid, cli.user.gid);
    const { host = "127.0.0.1" } = options;
    const address = { host, port: await freePort() };
    const env = new ZenithEnv(dir, address, cli, options.major ?? TEST_PG_MAJOR);
    living.add(env);
    try {
      const safekeepers = options.safekeepers ?? defaultSafekeepers();
      await env.zenith(
        "init",
        "--listen",
        formatHostPort(address),
        "--pg-version",
        String(env.major),
        ...(options.tenant === undefined ? [] : ["--tenantid", options.tenant]),
        ...(safekeepers === undefined ? [] : ["--safekeepers", String(safekeepers)]),
        ...(options.init ?? []),
      );
      await env.#moveSafekeepers(host);
      // They are told to everybody by the environment's start, which not every test wants.
      await ensureServerTokens(env.environment);
      if (cli.user !== undefined) chownRecursive(env.environment.paths.auth.dir, cli.user);
      const storage = options.storage ?? defaultStorage();
      const sparesAhead = options.sparesAhead ?? process.env["ZENITH_TEST_SPARES_AHEAD"] === "1";
      if (storage !== undefined) env.configureCompute({ storage });
      if (!sparesAhead) env.configureCompute({ spares_ahead: false });
      if (options.start !== false) await env.zenith("start");
      return env;
    } catch (error) {
      await env[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Changes what the environment's config says about computes. */
  configureCompute(settings: Partial<NonNullable<Environment["config"]["compute"]>>): void {
    const { paths, config } = this.environment;
    const compute = { storage: "auto" as const, ...config.compute, ...settings };
    saveEnvironment({ paths, config: { ...config, compute } });
    this.#environment = undefined;
  }

  /** Gives the safekeepers ports that nobody else has. */
  async #moveSafekeepers(host: string): Promise<void> {
    const { paths, config } = this.environment;
    if (config.safekeepers === undefined) return;
    const safekeepers = [];
    for (const { id } of config.safekeepers) {
      safekeepers.push({ id, listen: formatHostPort({ host, port: await freePort() }) });
    }
    saveEnvironment({ paths, config: { ...config, safekeepers } });
    this.#environment = undefined;
    this.safekeepers.push(
      ...listSafekeepers(this.environment).map((info) => new SafekeeperHandle(this, info)),
    );
  }

  get repoDir(): string {
    return join(this.dir, "repo");
  }

  get environment(): Environment {
    this.#environment ??= loadEnvironment(this.repoDir);
    return this.#environment;
  }

  get paths(): EnvironmentPaths {
    return this.environment.paths;
  }

  /** The token of its operator, for those who speak to its servers by hand. */
  get token(): string {
    return readFileSync(this.paths.auth.adminToken, "utf8").trim();
  }

  /** What a server that is started by hand needs to take part. */
  get authOptions(): string[] {
    return ["--auth", this.paths.auth.dir];
  }

  get defaultTenant(): TenantId {
    return this.environment.config.default_tenant_id;
  }

  /** Runs a command and returns what it printed. @throws when it fails, with what it said */
  async zenith(...args: string[]): Promise<string> {
    const result = await this.tryZenith(...args);
    if (result.code !== 0) {
      throw new Error(`zenith ${args.join(" ")}: exit code ${result.code}\n${result.stderr}${result.stdout}`);
    }
    return result.stdout;
  }

  /** Runs a command that may fail. */
  tryZenith(...args: string[]): Promise<CliResult> {
    return runZenith(args, { ZENITH_REPO_DIR: this.repoDir }, this.#cli);
  }

  /** Runs a command with more environment variables, which may fail. */
  tryZenithWith(variables: Readonly<Record<string, string>>, ...args: string[]): Promise<CliResult> {
    return runZenith(args, { ZENITH_REPO_DIR: this.repoDir, ...variables }, this.#cli);
  }

  async createTenant(major = this.major): Promise<TenantId> {
    const printed = await this.zenith("tenant", "create", "--pg-version", String(major));
    return parseTenantId(printed.trim());
  }

  /** @param start a branch, `branch@LSN` or `timeline@LSN` */
  async branch(name: string, start: string, tenant: TenantId = this.defaultTenant): Promise<void> {
    await this.zenith("branch", name, start, "--tenantid", tenant);
  }

  /** Makes a branch, runs `work` on its Postgres, and stops that. */
  async onBranch<T>(
    name: string,
    start: string,
    tenant: TenantId,
    work: (pg: Compute) => Promise<T>,
  ): Promise<T> {
    await this.branch(name, start, tenant);
    const pg = await this.startCompute(name, tenant);
    try {
      return await work(pg);
    } finally {
      await pg.stop();
    }
  }

  /** Starts the branch's Postgres, made when there is none yet. */
  async startCompute(branch = "main", tenant: TenantId = this.defaultTenant): Promise<Compute> {
    const known = this.#computes.get(`${tenant}/${branch}`);
    // It went with its branch, when that was deleted.
    const exists = known !== undefined && existsSync(known.paths.dir);
    const compute = exists ? known : await this.createCompute(branch, tenant);
    await compute.start();
    return compute;
  }

  /** Waits until the page server has all that is committed on the branch: with safekeepers it comes behind. */
  async untilArrived(branch = "main", tenant: TenantId = this.defaultTenant): Promise<void> {
    await using client = this.pageserver.client();
    const found = (await client.branchList(tenant)).find(({ name }) => name === branch);
    if (found === undefined) throw new Error(`there is no branch ${branch}`);
    await untilBranchEndArrived(client, tenant, found);
  }

  /** Makes the branch's Postgres without starting it. */
  async createCompute(branch = "main", tenant: TenantId = this.defaultTenant): Promise<Compute> {
    const port = await freePort();
    await this.zenith("pg", "create", branch, "--tenantid", tenant, "--port", String(port));
    const compute = new Compute(this, branch, tenant, port);
    this.#computes.set(`${tenant}/${branch}`, compute);
    return compute;
  }

  /** Ends every process of this environment at once. */
  killEverything(): void {
    // First what would start the others again.
    const pidFiles: string[] = [join(this.repoDir, "serve.pid")];
    try {
      for (const compute of [...allComputePlaces(this.environment), ...listDeletions(this.environment)]) {
        pidFiles.push(compute.paths.pidFile);
        killPostgres(compute.paths);
      }
    } catch {
      // There is no environment, or only half of one: nothing was started from it.
    }
    pidFiles.push(join(this.repoDir, "pageserver.pid"));
    for (const { paths } of this.safekeepers) pidFiles.push(paths.pidFile);
    for (const pidFile of pidFiles) {
      const found = checkPidFile(pidFile);
      if (found.state === "running") process.kill(found.process.pid, "SIGKILL");
    }
    for (const pid of this.supervisors()) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has ended by itself.
      }
    }
  }

  /** All supervisors that run: those of computes, those that wait, and those that will. */
  supervisors(): number[] {
    const { spares } = new EnvironmentPaths(this.repoDir);
    return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(`\0--spares\0${spares}\0`);
      } catch {
        // It has ended.
        return false;
      }
    });
  }

  /** Supervisors that wait for the next start. */
  spares(): FoundSpare[] {
    return findSpares(new EnvironmentPaths(this.repoDir).spares);
  }

  /** Of computes that the tests have not made by this, or that are on their way out. */
  #moments(): ComputePaths[] {
    if (!existsSync(this.repoDir)) return [];
    const moments = allComputePlaces(this.environment).filter(({ moment }) => moment !== null);
    return [...moments, ...listDeletions(this.environment)].map(({ paths }) => paths);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.killEverything();
    living.delete(this);
    await until("the processes have ended", () => {
      this.killEverything();
      const pidFiles = [
        join(this.repoDir, "pageserver.pid"),
        ...this.safekeepers.map(({ paths }) => paths.pidFile),
      ];
      return this.supervisors().length === 0 &&
        pidFiles.every((pidFile) => checkPidFile(pidFile).state !== "running");
    });
    for (const compute of this.#computes.values()) removeLazyStorage(compute.paths);
    for (const moment of this.#moments()) removeLazyStorage(moment);
    if (process.env["ZENITH_TEST_KEEP"] !== "1") {
      rmSync(this.dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    }
  }
}

/** The environment's page server. */
class PageServerHandle {
  readonly #env: ZenithEnv;
  readonly address: ServerAddress;

  constructor(env: ZenithEnv, address: ServerAddress) {
    this.#env = env;
    this.address = address;
  }

  /** Starts the page server alone: "zenith start" would start safekeepers that are down. */
  async start(): Promise<void> {
    const { workdir } = this.#env.paths.pageserver;
    await this.#env.zenith("pageserver", "-D", workdir, "-l", formatHostPort(this.address), "--daemonize");
  }

  /** Stops the page server alone; every Postgres goes on. */
  async stop(): Promise<void> {
    const process_ = this.#process();
    process.kill(process_.pid, "SIGTERM");
    await until("the page server has stopped", () => !isRunning(process_));
  }

  async restart(): Promise<void> {
    await this.#env.zenith("restart");
  }

  /** As a power failure would end it, but for what the kernel still writes. */
  async kill9(): Promise<void> {
    const process_ = this.#process();
    process.kill(process_.pid, "SIGKILL");
    await until("the page server is dead", () => !isRunning(process_));
  }

  /** Its process, for signals. */
  get pid(): number {
    return this.#process().pid;
  }

  /** A session for the page server's own commands. */
  connect(): Promise<Connection> {
    return Connection.open(this.address, { database: "zenith", password: this.#env.token }, "status");
  }

  /** The same commands, typed. */
  client(): PageServerClient {
    return new PageServerClient(this.address);
  }

  log(): string {
    return readFileSync(this.#env.paths.pageserver.log, "utf8");
  }

  #process() {
    const found = checkPidFile(this.#env.paths.pageserver.pidFile);
    if (found.state !== "running") throw new Error("the page server is not running");
    return found.process;
  }
}

/** One of the environment's safekeepers. */
export class SafekeeperHandle {
  readonly #env: ZenithEnv;
  readonly id: number;
  readonly address: ServerAddress;
  readonly paths: SafekeeperPaths;

  constructor(env: ZenithEnv, { id, address, paths }: SafekeeperInfo) {
    this.#env = env;
    this.id = id;
    this.address = address;
    this.paths = paths;
  }

  async start(): Promise<void> {
    await this.#env.zenith(
      "safekeeper",
      "-D",
      this.paths.workdir,
      "-l",
      formatHostPort(this.address),
      "--id",
      String(this.id),
      "--pageserver",
      formatHostPort(this.#env.pageserver.address),
      ...this.#env.authOptions,
      "--daemonize",
    );
  }

  async stop(): Promise<void> {
    await this.#end("SIGTERM");
  }

  async kill9(): Promise<void> {
    await this.#end("SIGKILL");
  }

  /** Its process, for signals. */
  get pid(): number {
    return this.#process().pid;
  }

  status(): Promise<SafekeeperTimelineStatus[]> {
    return safekeeperStatus(this.address);
  }

  log(): string {
    return readFileSync(this.paths.log, "utf8");
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const process_ = this.#process();
    process.kill(process_.pid, signal);
    await until(`safekeeper ${this.id} has ended`, () => !isRunning(process_));
  }

  #process() {
    const found = checkPidFile(this.paths.pidFile);
    if (found.state !== "running") throw new Error(`safekeeper ${this.id} is not running`);
    return found.process;
  }
}

/** One branch's Postgres. */
export class Compute implements AsyncDisposable {
  readonly #env: ZenithEnv;
  readonly branch: string;
  readonly tenant: TenantId;
  readonly address: HostPort;
  readonly paths: ComputePaths;

  constructor(env: ZenithEnv, branch: string, tenant: TenantId, port: number) {
    this.#env = env;
    this.branch = branch;
    this.tenant = tenant;
    this.address = { host: "127.0.0.1", port };
    this.paths = env.paths.compute(tenant, parseBranchName(branch));
  }

  /** As the superuser, unless another role is named. */
  connect(options: ConnectOptions = {}): Promise<Connection> {
    const { password } = withPassword(this.paths, { user: options.user });
    return Connection.open(this.address, { ...(password === undefined ? {} : { password }), ...options });
  }

  /** The superuser's. */
  get password(): string {
    return withPassword(this.paths).password!;
  }

  /** What libpq's programs need to connect as the superuser. */
  get libpq(): Readonly<Record<string, string>> {
    return connectionEnvironment(this.address, withPassword(this.paths));
  }

  /** A connection string of libpq's for the superuser. */
  get conninfo(): string {
    const { host, port } = this.address;
    return `host=${host} port=${port} user=zenith_admin dbname=postgres password=${this.password}`;
  }

  async start(): Promise<void> {
    await this.#env.zenith("pg", "start", this.branch, "--tenantid", this.tenant);
  }

  async stop(mode: "fast" | "immediate" = "fast"): Promise<void> {
    await this.#env.zenith("pg", "stop", this.branch, "--tenantid", this.tenant, "-m", mode);
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  /** Kills Postgres; its supervisor notices and ends. */
  async kill9(): Promise<void> {
    if (!killPostgres(this.paths)) throw new Error(`the Postgres of ${this.branch} is not running`);
    await until("the supervisor has ended", () => checkPidFile(this.paths.pidFile).state !== "running");
  }

  /** What one statement gives, in a session of its own. */
  async value(sql: string, params: readonly unknown[] = [], options: ConnectOptions = {}): Promise<unknown> {
    await using connection = await this.connect(options);
    return await connection.value(sql, params);
  }

  async query(sql: string, options: ConnectOptions = {}): Promise<Record<string, unknown>[]> {
    await using connection = await this.connect(options);
    return await connection.query(sql);
  }

  /** Where the WAL ends now: what `branch <name> <branch>@<lsn>` takes. */
  async lsn(): Promise<string> {
    return String(await this.value("SELECT pg_current_wal_insert_lsn()"));
  }

  /** Its supervisor's. */
  log(): string {
    return readFileSync(this.paths.log, "utf8");
  }

  postgresLog(): string {
    return readFileSync(this.paths.postgresLog, "utf8");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (checkPidFile(this.paths.pidFile).state === "running") await this.stop("immediate");
  }
}

function killPostgres(paths: ComputePaths): boolean {
  const pid = postmasterPid(paths.pgdata);
  if (pid === undefined) return false;
  process.kill(pid, "SIGKILL");
  return true;
}

const POLL_MS = 20;
const UNTIL_TIMEOUT_MS = 60_000;

/** Waits for a condition; a test that waits in vain fails with its name. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = UNTIL_TIMEOUT_MS,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!await condition()) {
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs / 1000} s in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
