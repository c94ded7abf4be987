/** A stock PostgreSQL cluster on plain files, in a directory of its own, reached by its Unix socket. */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { findPostgres, type PostgresInstall } from "../../src/pg_install/find_postgres.ts";
import { postgresEnvironment } from "../../src/pg_install/initdb.ts";
import {
  assertReachable,
  asUser,
  chownRecursive,
  makeOwnedDirectory,
  pgUser,
} from "../../src/pg_install/pg_user.ts";
import { childOutput } from "./child_output.ts";
import { PG_CTL_TIMEOUT_S, testPostgres } from "./postgres_major.ts";

export interface StockClusterOptions {
  /** Its major: the one that the tests run. */
  major?: number;
  /** wal_segment_size in MiB. */
  segmentMiB?: number;
  dataChecksums?: boolean;
  /** Also listens there on 127.0.0.1. */
  tcpPort?: number;
  /** Lines of postgresql.conf. */
  settings?: Readonly<Record<string, string>>;
}

/** Any number does without TCP: the socket lies in the cluster's own directory. */
const PORT = 57100;

export class StockCluster implements AsyncDisposable {
  readonly install: PostgresInstall;
  readonly directory: string;
  readonly dataDir: string;
  readonly port: number;
  #client: postgres.Sql | undefined;
  #running = false;

  /** Runs initdb and starts the cluster. */
  static async start(options: StockClusterOptions = {}): Promise<StockCluster> {
    const cluster = new StockCluster(options.tcpPort ?? PORT, options.major);
    try {
      cluster.#initdb(options);
      cluster.startPostgres();
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
    return cluster;
  }

  private constructor(port: number, major: number | undefined) {
    this.port = port;
    this.install = major === undefined ? testPostgres() : findPostgres(major);
    this.directory = mkdtempSync(join(tmpdir(), "zenith-stock-"));
    this.dataDir = join(this.directory, "data");
    makeOwnedDirectory(this.directory, pgUser());
    assertReachable(this.directory, pgUser());
  }

  #initdb(options: StockClusterOptions): void {
    const args = [
      `--pgdata=${this.dataDir}`,
      "--username=postgres",
      "--auth=trust",
      "--encoding=UTF8",
      "--locale=C",
      "--no-sync",
      `--wal-segsize=${options.segmentMiB ?? 16}`,
    ];
    if (options.dataChecksums === true) args.push("--data-checksums");
    this.run("initdb", args);
    const settings: Record<string, string> = {
      listen_addresses: options.tcpPort === undefined ? "''" : "'127.0.0.1'",
      unix_socket_directories: `'${this.directory}'`,
      port: String(this.port),
      fsync: "off",
      ...options.settings,
    };
    const lines = Object.entries(settings).map(([name, value]) => `${name} = ${value}\n`);
    writeFileSync(join(this.dataDir, "postgresql.conf"), lines.join(""), { flag: "a" });
  }

  /** Runs one of PostgreSQL's programs as the user that it runs as. @throws {Error} with its output, when it fails */
  run(program: string, args: readonly string[]): void {
    const log = join(this.directory, "programs.log");
    const done = spawnSync("/bin/sh", [
      "-c",
      `exec "$0" "$@" >>'${log}' 2>&1`,
      join(this.install.binDir, program),
      ...args,
    ], { ...asUser(pgUser()), cwd: this.directory, env: postgresEnvironment(), stdio: "ignore" });
    if (done.status !== 0) {
      throw new Error(
        `${program} failed (${done.status ?? done.signal}):\n${readFileSync(log, "utf8")}${this.log()}`,
      );
    }
  }

  /** Runs one as {@link run} does, while the test goes on. */
  async runAside(program: string, args: readonly string[]): Promise<void> {
    const child = spawn(join(this.install.binDir, program), args, {
      ...asUser(pgUser()),
      cwd: this.directory,
      env: postgresEnvironment(),
      stdio: ["ignore", "pipe", "pipe"],
    });
    const { code, stderr } = await childOutput(child);
    if (code !== 0) throw new Error(`${program} ${args.join(" ")} failed (${code}):\n${stderr}`);
  }

  /** Postgres' own log so far. */
  log(): string {
    try {
      return readFileSync(join(this.directory, "postgres.log"), "utf8");
    } catch {
      return "";
    }
  }

  startPostgres(): void {
    this.run("pg_ctl", [
      "start",
      "-w",
      "-t",
      PG_CTL_TIMEOUT_S,
      "-D",
      this.dataDir,
      "-l",
      join(this.directory, "postgres.log"),
    ]);
    this.#running = true;
  }

  async stopPostgres(mode: "fast" | "immediate" = "fast"): Promise<void> {
    await this.reconnect();
    if (!this.#running) return;
    this.#running = false;
    this.run("pg_ctl", ["stop", "-w", "-m", mode, "-D", this.dataDir]);
  }

  /** A connection to the database `postgres`. */
  get sql(): postgres.Sql {
    this.#client ??= postgres({
      path: join(this.directory, `.s.PGSQL.${this.port}`),
      database: "postgres",
      username: "postgres",
      max: 4,
      onnotice: () => {},
    });
    return this.#client;
  }

  /** A single connection of the caller's own, which the caller ends. */
  session(database = "postgres"): postgres.Sql {
    return postgres({
      path: join(this.directory, `.s.PGSQL.${this.port}`),
      database,
      username: "postgres",
      max: 1,
      onnotice: () => {},
    });
  }

  /** Ends all connections; {@link sql} makes new ones, which see new settings. */
  async reconnect(): Promise<void> {
    await this.#client?.end();
    this.#client = undefined;
  }

  /** Writes a file into the data directory, as the user that Postgres runs as has it. */
  writeFile(path: string, content: Uint8Array): void {
    const full = join(this.dataDir, path);
    writeFileSync(full, content, { mode: 0o600 });
    chownRecursive(full, pgUser());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.stopPostgres("immediate");
    } finally {
      rmSync(this.directory, { recursive: true, force: true });
    }
  }
}
