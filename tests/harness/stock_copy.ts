/** A stock Postgres on what the page server hands out: a plain data directory, that recovers from an archive or follows a primary. */
import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import type { TenantId } from "../../src/common/id.ts";
import { unpackBasebackup } from "../../src/compute/postgres/data_directory.ts";
import { postgresEnvironment } from "../../src/pg_install/initdb.ts";
import { asUser, chownRecursive, makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import type { ZenithEnv } from "./zenith_env.ts";
import { testPostgres } from "./postgres_major.ts";

/** Unpacks the basebackup of a branch's end into `directory`. */
export async function unpackBranch(
  env: ZenithEnv,
  tenant: TenantId,
  branch: string,
  directory: string,
): Promise<void> {
  await using client = env.pageserver.client();
  const found = (await client.branchList(tenant)).find(({ name }) => name === branch);
  if (found === undefined) throw new Error(`there is no branch ${branch}`);
  const { host, port } = env.pageserver.address;
  const sql = postgres({
    host,
    port,
    user: "zenith_admin",
    password: env.token,
    database: "zenith",
    max: 1,
    fetch_types: false,
  });
  try {
    makeOwnedDirectory(directory, pgUser());
    const tar = await sql.unsafe(`basebackup ${tenant} ${found.timeline_id}`).readable();
    await unpackBasebackup(tar, directory, pgUser());
  } finally {
    await sql.end({ timeout: 1 });
  }
}

/** Any number does: the socket lies in the copy's own directory. */
const PORT = 57200;
const POLL_MS = 50;
const START_TIMEOUT_MS = 60_000;

export class StockCopy implements AsyncDisposable {
  readonly #directory: string;
  readonly #dataDir: string;
  #sql: postgres.Sql | undefined;

  private constructor() {
    this.#directory = mkdtempSync(join(tmpdir(), "zenith-copy-"));
    this.#dataDir = join(this.#directory, "data");
    makeOwnedDirectory(this.#directory, pgUser());
  }

  /** Of the branch's end, without any WAL: all of that has to come from elsewhere. */
  static async of(env: ZenithEnv, branch: string, tenant: TenantId = env.defaultTenant): Promise<StockCopy> {
    const copy = new StockCopy();
    try {
      await unpackBranch(env, tenant, branch, copy.#dataDir);
      const wal = join(copy.#dataDir, "pg_wal");
      for (const name of readdirSync(wal)) {
        if (name !== "archive_status") rmSync(join(wal, name));
      }
      return copy;
    } catch (error) {
      await copy[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** @param signal `recovery.signal` or `standby.signal` */
  start(signal: "recovery.signal" | "standby.signal", ...settings: readonly string[]): void {
    const conf = [
      "listen_addresses = ''",
      `unix_socket_directories = '${this.#directory}'`,
      `port = ${PORT}`,
      "fsync = off",
      ...settings,
    ];
    appendFileSync(join(this.#dataDir, "postgresql.conf"), conf.map((line) => `${line}\n`).join(""));
    writeFileSync(join(this.#dataDir, "pg_hba.conf"), "local all all trust\n");
    writeFileSync(join(this.#dataDir, "pg_ident.conf"), "");
    writeFileSync(join(this.#dataDir, signal), "");
    chownRecursive(this.#dataDir, pgUser());
    this.#pgCtl("start", "-W", "-l", join(this.#directory, "postgres.log"));
  }

  /** What one statement gives, as soon as it gives that; until then it may fail, for recovery goes on. */
  async until(sql: string, expected: unknown): Promise<void> {
    this.#sql ??= postgres({
      path: join(this.#directory, `.s.PGSQL.${PORT}`),
      database: "postgres",
      username: "zenith_admin",
      max: 1,
      onnotice: () => {},
    });
    let last: unknown;
    for (const deadline = Date.now() + START_TIMEOUT_MS; Date.now() < deadline;) {
      last = await this.#sql.unsafe(sql).then(
        (rows) => Object.values(rows[0])[0],
        (error: unknown) => error,
      );
      if (last === expected) return;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    throw new Error(`${sql} gives ${String(last)}, expected ${String(expected)}\n${this.log()}`);
  }

  log(): string {
    return readFileSync(join(this.#directory, "postgres.log"), "utf8");
  }

  #pgCtl(...args: readonly string[]): void {
    const { binDir } = testPostgres();
    const done = spawnSync(join(binDir, "pg_ctl"), ["-D", this.#dataDir, ...args], {
      ...asUser(pgUser()),
      cwd: this.#directory,
      env: postgresEnvironment(),
      stdio: "ignore",
    });
    if (done.status !== 0) throw new Error(`pg_ctl ${args.join(" ")} failed: ${this.log()}`);
  }

  async stop(): Promise<void> {
    await this.#sql?.end({ timeout: 1 });
    this.#sql = undefined;
    if (existsSync(join(this.#dataDir, "postmaster.pid"))) this.#pgCtl("stop", "-w", "-m", "immediate");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.stop();
    } finally {
      rmSync(this.#directory, { recursive: true, force: true });
    }
  }
}
