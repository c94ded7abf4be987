/** pgBackRest, as its users run it, for one stock cluster. */
import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { asUser, makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import { childOutput } from "./child_output.ts";
import type { StockCluster } from "./stock_cluster.ts";

export const STANZA = "main";

export class PgBackRest {
  readonly directory: string;
  readonly #config: string;
  readonly #cluster: StockCluster;

  /** @param settings of pgbackrest.conf's [global], by repository: `{ path … }` is added */
  constructor(cluster: StockCluster, repositories: readonly Readonly<Record<string, string>>[]) {
    this.#cluster = cluster;
    this.directory = join(cluster.directory, "pgbackrest");
    for (const path of ["", "log", "lock", ...repositories.map((_, i) => `repo${i + 1}`)]) {
      mkdirSync(join(this.directory, path), { recursive: true });
      makeOwnedDirectory(join(this.directory, path), pgUser());
    }
    this.#config = join(this.directory, "pgbackrest.conf");
    const lines = repositories.flatMap((settings, i) =>
      Object.entries({ path: this.repository(i + 1), ...settings }).map(([name, value]) =>
        `repo${i + 1}-${name}=${value}`
      )
    );
    writeFileSync(
      this.#config,
      `[global]
log-path=${this.directory}/log
lock-path=${this.directory}/lock
start-fast=y
compress-level=1
${lines.join("\n")}
[${STANZA}]
pg1-path=${cluster.dataDir}
pg1-port=${cluster.port}
pg1-socket-path=${cluster.directory}
pg1-user=postgres
`,
    );
  }

  repository(number: number): string {
    return join(this.directory, `repo${number}`);
  }

  /** For postgresql.conf. */
  get archiveCommand(): string {
    return `pgbackrest --config=${this.#config} --stanza=${STANZA} archive-push %p`;
  }

  /** Makes the cluster archive to all repositories. */
  async startArchiving(): Promise<void> {
    const { sql } = this.#cluster;
    await sql.unsafe("ALTER SYSTEM SET archive_mode = on");
    await sql.unsafe(`ALTER SYSTEM SET archive_command = '${this.archiveCommand}'`);
    await this.#cluster.stopPostgres();
    this.#cluster.startPostgres();
    await this.run("stanza-create");
  }

  /** Runs a command. @throws {Error} with its output, when it fails */
  async run(command: string, ...options: readonly string[]): Promise<void> {
    const args = [`--config=${this.#config}`, `--stanza=${STANZA}`, "--log-level-console=warn", ...options];
    const child = spawn("pgbackrest", [...args, command], {
      ...asUser(pgUser()),
      cwd: this.directory,
      env: { PATH: "/usr/bin:/bin" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const { code, stdout, stderr } = await childOutput(child);
    if (code !== 0) throw new Error(`pgbackrest ${command} failed (${code}):\n${stdout}${stderr}`);
  }

  /** Ends the current WAL segment, and waits until it is archived. */
  async archiveAll(): Promise<void> {
    const { sql } = this.#cluster;
    // Without a record, nothing is switched.
    await sql.unsafe("SELECT pg_logical_emit_message(true, 'test', 'end')");
    const [row] = await sql.unsafe("SELECT pg_walfile_name(pg_switch_wal()) AS name");
    const last = String(row!["name"]);
    for (;;) {
      const [done] = await sql.unsafe("SELECT last_archived_wal >= $1 AS done FROM pg_stat_archiver", [last]);
      if (done!["done"] === true) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
