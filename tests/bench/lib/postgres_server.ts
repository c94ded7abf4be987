/** A stock Postgres on a given data directory, reached by a Unix socket beside it, and by page servers on loopback. */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { postgresEnvironment, ZENITH_SUPERUSER } from "../../../src/pg_install/initdb.ts";
import { asUser, chownRecursive, pgUser } from "../../../src/pg_install/pg_user.ts";
import { clientProgram } from "../../harness/postgres_major.ts";

/** A benchmark has one at a time. */
const PORT = 27800;
const TIMEOUT_S = "600";

export class PostgresServer {
  readonly pgdata: string;

  /** @param settings lines of postgresql.conf; what the file had before is gone */
  constructor(pgdata: string, settings: Readonly<Record<string, string>>) {
    this.pgdata = pgdata;
    const all = {
      listen_addresses: "'127.0.0.1'",
      unix_socket_directories: `'${this.socketDir}'`,
      port: String(PORT),
      fsync: "off",
      ...settings,
    };
    const lines = Object.entries(all).map(([name, value]) => `${name} = ${value}\n`);
    writeFileSync(join(pgdata, "postgresql.conf"), lines.join(""));
    writeFileSync(
      join(pgdata, "pg_hba.conf"),
      "local all all trust\nlocal replication all trust\nhost replication all 127.0.0.1/32 trust\n",
    );
    writeFileSync(join(pgdata, "pg_ident.conf"), "");
    chownRecursive(pgdata, pgUser());
  }

  get socketDir(): string {
    return dirname(this.pgdata);
  }

  /** For a page server: it takes TCP addresses only. */
  get connInfo(): string {
    return `host=127.0.0.1 port=${PORT} user=${ZENITH_SUPERUSER} dbname=postgres`;
  }

  get #logFile(): string {
    return `${this.pgdata}.log`;
  }

  log(): string {
    return existsSync(this.#logFile) ? readFileSync(this.#logFile, "utf8") : "";
  }

  /** Whether it was started and not stopped. */
  get isRunning(): boolean {
    return existsSync(join(this.pgdata, "postmaster.pid"));
  }

  start(): void {
    this.run(
      "pg_ctl",
      ["start", "-w", "-t", TIMEOUT_S, "-D", this.pgdata, "-l", this.#logFile],
      "",
      "ignore",
    );
  }

  stop(mode: "fast" | "immediate"): void {
    this.run("pg_ctl", ["stop", "-w", "-t", TIMEOUT_S, "-m", mode, "-D", this.pgdata], "", "ignore");
  }

  /** Runs SQL; what psql prints. */
  sql(script: string): string {
    return this.run("psql", ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"], script).trim();
  }

  /** Runs a program, connected by its environment. @throws {Error} with its output when it fails */
  run(program: string, args: readonly string[], input = "", stdout: "pipe" | "ignore" = "pipe"): string {
    const done = spawnSync(clientProgram(program), args, {
      ...this.#processOptions(),
      input,
      stdio: ["pipe", stdout, stdout],
      encoding: "utf8",
      maxBuffer: 64 << 20,
    });
    if (done.status !== 0) {
      throw new Error(
        `${program} ${args.join(" ")} failed: ${done.stderr ?? ""}\n${this.log().slice(-2000)}`,
      );
    }
    return done.stdout ?? "";
  }

  /** As {@link run}, beside whatever else is going on. Resolves with what it prints. */
  spawn(program: string, args: readonly string[]): Promise<string> {
    return new Promise((resolve, reject) => {
      const child = spawn(clientProgram(program), args, {
        ...this.#processOptions(),
        stdio: ["ignore", "pipe", "pipe"],
      });
      let output = "";
      child.stdout.on("data", (chunk) => (output += chunk));
      child.stderr.on("data", (chunk) => (output += chunk));
      child.on("error", reject);
      child.on(
        "close",
        (code) => code === 0 ? resolve(output) : reject(new Error(`${program} failed: ${output}`)),
      );
    });
  }

  #processOptions() {
    return {
      ...asUser(pgUser()),
      cwd: this.socketDir,
      env: {
        ...postgresEnvironment(),
        PGHOST: this.socketDir,
        PGPORT: String(PORT),
        PGUSER: ZENITH_SUPERUSER,
        PGDATABASE: "postgres",
      },
    };
  }
}
