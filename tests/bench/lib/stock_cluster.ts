/** A cluster of stock Postgres on TCP, in a directory of its own. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, closeSync, mkdirSync, openSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { PostgresInstall } from "../../../src/pg_install/find_postgres.ts";
import { postgresEnvironment, runInitdb, ZENITH_SUPERUSER } from "../../../src/pg_install/initdb.ts";
import { asUser, makeOwnedDirectory, pgUser } from "../../../src/pg_install/pg_user.ts";
import { Connection } from "../../harness/connection.ts";

const TIMEOUT_S = "120";

export class StockCluster {
  readonly #install: PostgresInstall;
  readonly #directory: string;
  readonly #port: number;

  /** @param directory has, or will have, the cluster in `work/data` */
  constructor(install: PostgresInstall, directory: string, port: number) {
    this.#install = install;
    this.#directory = directory;
    this.#port = port;
  }

  get #workDir(): string {
    return join(this.#directory, "work");
  }
  get #pgdata(): string {
    return join(this.#workDir, "data");
  }

  /** @param settings more lines for postgresql.conf */
  async initialize(settings: readonly string[] = []): Promise<void> {
    // The directory may be a file system's own (a subvolume) and be there already.
    mkdirSync(this.#directory, { mode: 0o755, recursive: true });
    makeOwnedDirectory(this.#workDir, pgUser());
    await runInitdb({ install: this.#install, dir: this.#pgdata, superuser: ZENITH_SUPERUSER });
    // As a branch of Zenith's has it.
    const lines = ["listen_addresses = '127.0.0.1'", "max_connections = 100", ...settings];
    appendFileSync(join(this.#pgdata, "postgresql.conf"), `${lines.join("\n")}\n`);
    writeFileSync(join(this.#pgdata, "pg_hba.conf"), "host all all 127.0.0.1/32 trust\n");
  }

  /** Starts it. What a copy of a running cluster left of the other's process is in nobody's way. */
  async start(): Promise<void> {
    rmSync(join(this.#pgdata, "postmaster.pid"), { force: true });
    // On the command line, since a copy has its parent's file.
    const options = `-p ${this.#port} -k ${this.#workDir}`;
    await this.#pgCtl(["start", "-l", join(this.#workDir, "log"), "-o", options]);
  }

  async stop(mode: "fast" | "immediate"): Promise<void> {
    await this.#pgCtl(["stop", "-m", mode]);
  }

  connect(database: string): Promise<Connection> {
    return Connection.open({ host: "127.0.0.1", port: this.#port }, { database });
  }

  async #pgCtl(args: readonly string[]): Promise<void> {
    // A file, since the postmaster keeps it open.
    const output = openSync(join(this.#workDir, "pg_ctl.log"), "a");
    try {
      const child = spawn(
        join(this.#install.binDir, "pg_ctl"),
        [...args, "-w", "-t", TIMEOUT_S, "-D", this.#pgdata],
        {
          ...asUser(pgUser()),
          cwd: this.#workDir,
          env: postgresEnvironment(),
          stdio: ["ignore", output, output],
        },
      );
      const [code] = await once(child, "close");
      if (code !== 0) throw new Error(`pg_ctl ${args[0]} failed: see ${join(this.#workDir, "log")}`);
    } finally {
      closeSync(output);
    }
  }
}
