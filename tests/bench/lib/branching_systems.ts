/** Systems that make branches of a database, behind one interface: Zenith, and what people use instead. */
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { HostPort } from "../../../src/common/host_port.ts";
import { parseBranchName } from "../../../src/common/id.ts";
import { runningProcess } from "../../../src/process/pid_file.ts";
import { findPostgres } from "../../../src/pg_install/find_postgres.ts";
import { Connection } from "../../harness/connection.ts";
import { freePort } from "../../harness/ports.ts";
import { ZenithEnv } from "../../harness/zenith_env.ts";
import { command, runBeside } from "./command.ts";
import { StockCluster } from "./stock_cluster.ts";

/** The branch that the data are loaded into. */
export const ROOT_BRANCH = "main";

export interface BranchingSystem extends AsyncDisposable {
  readonly name: string;
  /** Makes a branch of another's present state that clients can connect to. Nobody is connected to the parent. */
  create(branch: string, parent: string): Promise<void>;
  /** Makes a branch that nobody can connect to before it is woken, where that costs less. */
  make(branch: string, parent: string): Promise<void>;
  wake(branch: string): Promise<void>;
  connect(branch: string): Promise<Connection>;
  /** Nobody is connected to it. */
  remove(branch: string): Promise<void>;
  /** What a running branch takes beside the memory of Postgres itself. */
  memoryBytes?(branch: string): number;
}

/** As a person uses it: a command for each step. One safekeeper, lazy storage. */
export class ZenithSystem implements BranchingSystem {
  readonly name = "Zenith";
  readonly #env: ZenithEnv;
  /** By branch. */
  readonly #places = new Map<string, { readonly address: HostPort; readonly password: string }>();

  private constructor(env: ZenithEnv) {
    this.#env = env;
  }

  static async start(): Promise<ZenithSystem> {
    const env = await ZenithEnv.create({ safekeepers: 1 });
    const system = new ZenithSystem(env);
    const compute = await env.startCompute(ROOT_BRANCH);
    system.#places.set(ROOT_BRANCH, { address: compute.address, password: compute.password });
    return system;
  }

  async create(branch: string, parent: string): Promise<void> {
    this.#noteAddress(branch, await this.#env.zenith("branch", branch, parent, "--start", "--json"));
  }

  async make(branch: string, parent: string): Promise<void> {
    await this.#env.zenith("branch", branch, parent);
  }

  async wake(branch: string): Promise<void> {
    this.#noteAddress(branch, await this.#env.zenith("pg", "start", branch, "--json"));
  }

  connect(branch: string): Promise<Connection> {
    const { address, password } = this.#places.get(branch)!;
    return Connection.open(address, { password });
  }

  async remove(branch: string): Promise<void> {
    await this.#env.zenith("branch", "delete", branch, "--stop");
    this.#places.delete(branch);
  }

  memoryBytes(branch: string): number {
    const { pidFile } = this.#env.paths.compute(this.#env.defaultTenant, parseBranchName(branch));
    const { pid } = runningProcess(pidFile)!;
    // Its own memory, and its share of what others have too: proc_pid_smaps(5).
    const pss = /^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"));
    return Number(pss![1]) * 1024;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#env[Symbol.asyncDispose]();
  }

  #noteAddress(branch: string, answer: string): void {
    const { hostname, port, password } = new URL(JSON.parse(answer).uri);
    this.#places.set(branch, { address: { host: hostname, port: Number(port) }, password });
  }
}

/** A stock server that copies the files of a database for each branch. */
export class FileCopySystem implements BranchingSystem {
  readonly name: string;
  readonly #directory: string;
  readonly #cluster: StockCluster;
  #admin: Connection | undefined;

  private constructor(name: string, directory: string, cluster: StockCluster) {
    this.name = name;
    this.#directory = directory;
    this.#cluster = cluster;
  }

  /** @param directory is made, and removed at the end. @param settings more lines for postgresql.conf */
  static async start(
    name: string,
    major: number,
    directory: string,
    settings: readonly string[] = [],
  ): Promise<FileCopySystem> {
    const cluster = new StockCluster(findPostgres(major), directory, await freePort());
    await cluster.initialize(settings);
    await cluster.start();
    const system = new FileCopySystem(name, directory, cluster);
    system.#admin = await cluster.connect("postgres");
    await system.#admin.query(`CREATE DATABASE ${ROOT_BRANCH}`);
    return system;
  }

  async create(branch: string, parent: string): Promise<void> {
    await this.#admin!.query(`CREATE DATABASE ${branch} TEMPLATE ${parent} STRATEGY file_copy`);
  }

  make(branch: string, parent: string): Promise<void> {
    return this.create(branch, parent);
  }

  async wake(): Promise<void> {}

  connect(branch: string): Promise<Connection> {
    return this.#cluster.connect(branch);
  }

  async remove(branch: string): Promise<void> {
    await this.#admin!.query(`DROP DATABASE ${branch} WITH (FORCE)`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#admin?.close();
    await this.#cluster.stop("fast");
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

/** A stock cluster per branch, in a snapshot of its parent's subvolume. The snapshot is as a crash leaves the files. */
export class BtrfsSystem implements BranchingSystem {
  readonly name: string;
  readonly #major: number;
  readonly #mountPoint: string;
  readonly #running = new Map<string, StockCluster>();

  private constructor(name: string, major: number, mountPoint: string) {
    this.name = name;
    this.#major = major;
    this.#mountPoint = mountPoint;
  }

  /** @param mountPoint of a btrfs, for nothing else */
  static async start(name: string, major: number, mountPoint: string): Promise<BtrfsSystem> {
    const system = new BtrfsSystem(name, major, mountPoint);
    command("btrfs", "subvolume", "create", system.#subvolume(ROOT_BRANCH));
    const cluster = await system.#cluster(ROOT_BRANCH);
    await cluster.initialize();
    await system.wake(ROOT_BRANCH);
    return system;
  }

  async create(branch: string, parent: string): Promise<void> {
    await this.make(branch, parent);
    await this.wake(branch);
  }

  async make(branch: string, parent: string): Promise<void> {
    if (this.#running.has(parent)) {
      // Without it the branch would replay all that its parent did since the last one.
      await using session = await this.connect(parent);
      await session.query("CHECKPOINT");
    }
    await runBeside("btrfs", "subvolume", "snapshot", this.#subvolume(parent), this.#subvolume(branch));
  }

  async wake(branch: string): Promise<void> {
    const cluster = await this.#cluster(branch);
    await cluster.start();
    this.#running.set(branch, cluster);
  }

  connect(branch: string): Promise<Connection> {
    return this.#running.get(branch)!.connect("postgres");
  }

  async remove(branch: string): Promise<void> {
    await this.#running.get(branch)?.stop("immediate");
    this.#running.delete(branch);
    await runBeside("btrfs", "subvolume", "delete", this.#subvolume(branch));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const branch of [...this.#running.keys()].reverse()) await this.remove(branch);
  }

  #subvolume(branch: string): string {
    return join(this.#mountPoint, branch);
  }

  async #cluster(branch: string): Promise<StockCluster> {
    return new StockCluster(findPostgres(this.#major), this.#subvolume(branch), await freePort());
  }
}
