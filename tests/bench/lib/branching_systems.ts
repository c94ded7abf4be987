/** Systems that make branches of a database, behind one interface: Zenith, and what people use instead. */
import { spawnSync } from "node:child_process";
import { appendFileSync, closeSync, mkdirSync, openSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { HostPort } from "../../../src/common/host_port.ts";
import { findPostgres, type PostgresInstall } from "../../../src/pg_install/find_postgres.ts";
import { postgresEnvironment, runInitdb, ZENITH_SUPERUSER } from "../../../src/pg_install/initdb.ts";
import { asUser, makeOwnedDirectory, pgUser } from "../../../src/pg_install/pg_user.ts";
import { Connection } from "../../harness/connection.ts";
import { freePort } from "../../harness/ports.ts";
import { ZenithEnv } from "../../harness/zenith_env.ts";

/** The branch that the data are loaded into. */
export const ROOT_BRANCH = "main";

export interface BranchingSystem extends AsyncDisposable {
  readonly name: string;
  /** Makes a branch of another's present state that clients can connect to. Nobody is connected to the parent. */
  create(branch: string, parent: string): Promise<void>;
  connect(branch: string): Promise<Connection>;
  /** Nobody is connected to it. */
  remove(branch: string): Promise<void>;
}

/** As a person uses it: a command for each step. One safekeeper, lazy storage. */
export class ZenithSystem implements BranchingSystem {
  readonly name = "Zenith";
  readonly #env: ZenithEnv;
  readonly #addresses = new Map<string, HostPort>();

  private constructor(env: ZenithEnv) {
    this.#env = env;
  }

  static async start(): Promise<ZenithSystem> {
    const env = await ZenithEnv.create({ safekeepers: 1 });
    const system = new ZenithSystem(env);
    const compute = await env.startCompute(ROOT_BRANCH);
    system.#addresses.set(ROOT_BRANCH, compute.address);
    return system;
  }

  async create(branch: string, parent: string): Promise<void> {
    const made = JSON.parse(await this.#env.zenith("branch", branch, parent, "--start", "--json"));
    const { hostname, port } = new URL(made.uri);
    this.#addresses.set(branch, { host: hostname, port: Number(port) });
  }

  connect(branch: string): Promise<Connection> {
    return Connection.open(this.#addresses.get(branch)!);
  }

  async remove(branch: string): Promise<void> {
    await this.#env.zenith("branch", "delete", branch, "--stop");
    this.#addresses.delete(branch);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#env[Symbol.asyncDispose]();
  }
}

const TIMEOUT_S = "120";

/** A stock server that copies the files of a database for each branch. */
export class FileCopySystem implements BranchingSystem {
  readonly name: string;
  readonly #install: PostgresInstall;
  readonly #directory: string;
  readonly #port: number;
  #admin: Connection | undefined;

  private constructor(name: string, install: PostgresInstall, directory: string, port: number) {
    this.name = name;
    this.#install = install;
    this.#directory = directory;
    this.#port = port;
  }

  /** @param directory is made, and removed at the end. @param settings more lines for postgresql.conf */
  static async start(
    name: string,
    major: number,
    directory: string,
    settings: readonly string[] = [],
  ): Promise<FileCopySystem> {
    const system = new FileCopySystem(name, findPostgres(major), directory, await freePort());
    mkdirSync(directory, { mode: 0o755 });
    makeOwnedDirectory(system.#workDir, pgUser());
    await runInitdb({ install: system.#install, dir: system.#pgdata, superuser: ZENITH_SUPERUSER });
    const lines = [
      `port = ${system.#port}`,
      "listen_addresses = '127.0.0.1'",
      `unix_socket_directories = '${system.#workDir}'`,
      // As a branch of Zenith's has it.
      "max_connections = 100",
      ...settings,
    ];
    appendFileSync(join(system.#pgdata, "postgresql.conf"), `${lines.join("\n")}\n`);
    writeFileSync(join(system.#pgdata, "pg_hba.conf"), "host all all 127.0.0.1/32 trust\n");
    system.#pgCtl("start");
    system.#admin = await system.connect("postgres");
    await system.#admin.query(`CREATE DATABASE ${ROOT_BRANCH}`);
    return system;
  }

  get #workDir(): string {
    return join(this.#directory, "work");
  }
  get #pgdata(): string {
    return join(this.#workDir, "data");
  }

  async create(branch: string, parent: string): Promise<void> {
    await this.#admin!.query(`CREATE DATABASE ${branch} TEMPLATE ${parent} STRATEGY file_copy`);
  }

  connect(branch: string): Promise<Connection> {
    return Connection.open({ host: "127.0.0.1", port: this.#port }, { database: branch });
  }

  async remove(branch: string): Promise<void> {
    await this.#admin!.query(`DROP DATABASE ${branch} WITH (FORCE)`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#admin?.close();
    this.#pgCtl("stop");
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #pgCtl(what: "start" | "stop"): void {
    const log = join(this.#workDir, "log");
    const args = [what, "-w", "-t", TIMEOUT_S, "-D", this.#pgdata, ...(what === "start" ? ["-l", log] : [])];
    const output = openSync(join(this.#workDir, "pg_ctl.log"), "a");
    try {
      const done = spawnSync(join(this.#install.binDir, "pg_ctl"), args, {
        ...asUser(pgUser()),
        cwd: this.#workDir,
        env: postgresEnvironment(),
        stdio: ["ignore", output, output],
      });
      if (done.status !== 0) throw new Error(`pg_ctl ${what} failed: see ${log}`);
    } finally {
      closeSync(output);
    }
  }
}

const XFS_IMAGE_BYTES = 20e9;

/** A file system on which files are cloned, in a file of its own. Needs root, mkfs.xfs and loop devices. */
export class XfsVolume implements Disposable {
  readonly mountPoint: string;
  readonly #image: string;

  /** @throws {Error} when it can't be made here */
  constructor(directory: string) {
    this.#image = join(directory, "xfs.img");
    this.mountPoint = join(directory, "xfs");
    writeFileSync(this.#image, "");
    truncateSync(this.#image, XFS_IMAGE_BYTES);
    mkdirSync(this.mountPoint);
    command("mkfs.xfs", "-q", "-m", "reflink=1", this.#image);
    command("mount", "-o", "loop", this.#image, this.mountPoint);
  }

  [Symbol.dispose](): void {
    command("umount", this.mountPoint);
    rmSync(this.#image);
  }
}

function command(program: string, ...args: string[]): void {
  const done = spawnSync(program, args, { encoding: "utf8" });
  if (done.status !== 0) throw new Error(`${program}: ${done.error?.message ?? done.stderr.trim()}`);
}
