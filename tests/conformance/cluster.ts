/** A stock PostgreSQL cluster that logs every page it changes, and a copy of its files from before the first record. */
import { spawnSync } from "node:child_process";
import { appendFileSync, chmodSync, cpSync, existsSync, mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ZenithError } from "../../src/common/errors.ts";
import { formatLsn, type Lsn, parseLsn } from "../../src/common/lsn.ts";
import { findPostgres, type PostgresInstall } from "../../src/pg_install/find_postgres.ts";
import { postgresEnvironment, runInitdb } from "../../src/pg_install/initdb.ts";
import { CONTROL_FILE_PATH, type ControlFile, parseControlFile } from "../../src/postgres/control_file.ts";
import type { PgVersion } from "../../src/postgres/versions/pg_version.ts";
import { asUser, chownRecursive, makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import { clientProgram, PG_CTL_TIMEOUT_S, TEST_PG_MAJOR } from "../harness/postgres_major.ts";

export const SUPERUSER = "postgres";

/** The replication slot that holds the WAL for the check. */
const SLOT = "replay";

/**
 * No full-page images but those for checking, all WAL kept that the slot of {@link StockCluster.forgetWal} has not passed, and
 * what is needed to see rare record types. Two million records take 14 GB.
 */
const CONFIGURATION = `
listen_addresses = ''
fsync = off
full_page_writes = off
autovacuum_naptime = 5s
wal_consistency_checking = all
wal_recycle = off
max_wal_size = 50GB
checkpoint_timeout = 1h
max_connections = 60
max_prepared_transactions = 10
log_min_messages = warning
`;

export class StockCluster {
  readonly install: PostgresInstall;
  readonly dir: string;
  readonly port: number;
  #running = false;

  private constructor(install: PostgresInstall, dir: string, port: number) {
    this.install = install;
    this.dir = dir;
    this.port = port;
  }

  /** Runs initdb in a new directory and keeps a copy of the result in {@link baseDir}. */
  static async create(
    name: string,
    port: number,
    settings: string,
    major = TEST_PG_MAJOR,
  ): Promise<StockCluster> {
    const dir = mkdtempSync(join(tmpdir(), `zenith-conformance-${name}-`));
    chmodSync(dir, 0o755);
    makeOwnedDirectory(join(dir, "run"), pgUser());
    const cluster = new StockCluster(findPostgres(major), dir, port);
    await runInitdb({ install: cluster.install, dir: cluster.dataDir, superuser: SUPERUSER });
    appendFileSync(join(cluster.dataDir, "postgresql.conf"), CONFIGURATION + settings);
    cpSync(cluster.dataDir, cluster.baseDir, { recursive: true });
    chownRecursive(cluster.baseDir, pgUser());
    return cluster;
  }

  get dataDir(): string {
    return join(this.dir, "data");
  }
  /** The data directory as initdb left it. */
  get baseDir(): string {
    return join(this.dir, "base");
  }
  /** Where the server's socket is: PGHOST. */
  get socketDir(): string {
    return join(this.dir, "run");
  }
  get logFile(): string {
    return join(this.dir, "run", "postgres.log");
  }

  program(name: string): string {
    const path = join(this.install.binDir, name);
    return existsSync(path) ? path : clientProgram(name);
  }

  /** The environment for client programs. */
  get environment(): Record<string, string> {
    return {
      ...postgresEnvironment(),
      PGHOST: this.socketDir,
      PGPORT: String(this.port),
      PGUSER: SUPERUSER,
      PGDATABASE: "postgres",
    };
  }

  start(): void {
    const options = `-p ${this.port} -k ${this.socketDir}`;
    this.#pgCtl(["start", "-w", "-t", PG_CTL_TIMEOUT_S, "-l", this.logFile, "-o", options]);
    this.#running = true;
    this.sql(`
      SELECT pg_create_physical_replication_slot('${SLOT}', true)
      WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '${SLOT}')
    `);
  }

  stop(mode: "fast" | "immediate" = "fast"): void {
    if (!this.#running) return;
    this.#running = false;
    this.#pgCtl(["stop", "-w", "-t", PG_CTL_TIMEOUT_S, "-m", mode]);
  }

  /** The major of the cluster. */
  get pg(): PgVersion {
    return this.#control.pg;
  }

  get #control(): ControlFile {
    return parseControlFile(readFileSync(join(this.baseDir, CONTROL_FILE_PATH)));
  }

  /** Start of the first record that is not in {@link baseDir}: the last checkpoint's there, which is harmless to repeat. */
  baseLsn(): Lsn {
    return this.#control.checkPoint;
  }

  /** The end of the WAL that is in files for certain. */
  flushLsn(): Lsn {
    return parseLsn(this.sql("SELECT pg_current_wal_flush_lsn()").trim());
  }

  /** Lets the server remove the WAL before `lsn`; before the first call it keeps all. */
  forgetWal(lsn: Lsn): void {
    this.sql(`SELECT pg_replication_slot_advance('${SLOT}', '${formatLsn(lsn)}')`);
    this.sql("CHECKPOINT");
  }

  /** Runs a program of the installation to its end. @throws {ZenithError} `io` with its output when it fails */
  run(name: string, args: readonly string[], input = ""): string {
    const result = spawnSync(this.program(name), args, {
      ...asUser(pgUser()),
      cwd: this.dir,
      env: this.environment,
      input,
      encoding: "utf8",
      maxBuffer: 256 << 20,
    });
    if (result.status !== 0) {
      throw new ZenithError("io", `${name} ${args.join(" ")} failed: ${result.error ?? result.stderr}`);
    }
    return result.stdout;
  }

  /** Runs SQL as psql script; the first error ends it. */
  sql(script: string, database = "postgres"): string {
    return this.run(
      "psql",
      ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"],
      script,
    );
  }

  #pgCtl(args: readonly string[]): void {
    const result = spawnSync(this.program("pg_ctl"), ["-D", this.dataDir, ...args], {
      ...asUser(pgUser()),
      cwd: this.dir,
      env: this.environment,
      stdio: ["ignore", "ignore", "pipe"],
      encoding: "utf8",
    });
    if (result.status !== 0) {
      throw new ZenithError("io", `pg_ctl ${args[0]} failed: ${result.stderr}\n${tail(this.logFile)}`);
    }
  }
}

function tail(file: string): string {
  try {
    return readFileSync(file, "utf8").split("\n").slice(-10).join("\n");
  } catch {
    return "";
  }
}
