/** Physical backups of a compute, as PostgreSQL's own tools take them, and a stock Postgres that runs on one. */
import { spawnSync } from "node:child_process";
import { appendFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { mkdir, open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { findPostgres, type PostgresInstall } from "../../src/pg_install/find_postgres.ts";
import { postgresEnvironment, ZENITH_SUPERUSER } from "../../src/pg_install/initdb.ts";
import { asUser, chownRecursive, makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import { PgClient } from "../../src/pgwire/client.ts";
import { PG_CTL_TIMEOUT_S } from "./postgres_major.ts";
import type { Compute } from "./zenith_env.ts";

// Messages of a base backup's stream: "Streaming Replication Protocol", BASE_BACKUP.
const NEW_ARCHIVE = 0x6e;
const DATA = 0x64;

/**
 * What `pg_basebackup -Ft -Xfetch` asks for and writes, of majors whose pg_basebackup is not here: an archive `base.tar`.
 *
 * @param directory where it goes; made
 */
export async function streamBackup(pg: Compute, directory: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  const client = await PgClient.connect({
    ...pg.address,
    user: ZENITH_SUPERUSER,
    password: pg.password,
    replication: true,
  });
  await using file = await open(join(directory, "base.tar"), "w");
  try {
    let archives = 0;
    const command = "BASE_BACKUP (LABEL 'test', WAL true, CHECKPOINT 'fast', MANIFEST 'no')";
    for await (const message of client.copyOut(command)) {
      if (message[0] === NEW_ARCHIVE) archives++;
      else if (message[0] === DATA && archives === 1) await file.write(message.slice(1));
    }
    if (archives !== 1) throw new Error(`the backup has ${archives} archives`);
  } finally {
    client.destroy();
  }
}

/** Any number does: the socket lies in the backup's own directory. */
const PORT = 57300;

/** A data directory that came from a backup, with nothing of the compute's but what the backup took along. */
export class RestoredBackup implements AsyncDisposable {
  readonly directory: string;
  readonly dataDir: string;
  /** The name of its socket in {@link directory} ends with it. */
  readonly port: number = PORT;
  readonly #install: PostgresInstall;
  readonly #superuser: string;
  readonly #password: string;
  #sql: postgres.Sql | undefined;
  #running = false;

  /** @param password the superuser's, which came with the backup */
  constructor(major: number, password: string, superuser: string = ZENITH_SUPERUSER) {
    this.#password = password;
    this.#superuser = superuser;
    this.#install = findPostgres(major);
    this.directory = mkdtempSync(join(tmpdir(), "zenith-restored-"));
    this.dataDir = join(this.directory, "data");
    makeOwnedDirectory(this.directory, pgUser());
  }

  /** Puts the files of `base.tar` and, if there, `pg_wal.tar` in their places; both may be compressed. */
  unpackTar(from: string): void {
    mkdirSync(this.dataDir);
    const unpack = (name: string, to: string) => {
      const file = readdirSync(from).find((file) => file.startsWith(`${name}.tar`));
      if (file !== undefined) {
        this.#program("/bin/tar", "-xf", join(from, file), "-C", join(this.dataDir, to));
      }
    };
    unpack("base", ".");
    unpack("pg_wal", "pg_wal");
  }

  /** Starts it with what its own files say, but for where it listens. */
  start(...settings: readonly string[]): void {
    chownRecursive(this.dataDir, pgUser());
    spawnSync("chmod", ["700", this.dataDir]);
    appendFileSync(join(this.dataDir, "postgresql.auto.conf"), settings.map((line) => `${line}\n`).join(""));
    this.startAgain();
  }

  /** After {@link stop}. */
  startAgain(): void {
    const where = `-c listen_addresses= -c unix_socket_directories=${this.directory} -c port=${PORT}`;
    this.#program(
      join(this.#install.binDir, "pg_ctl"),
      ...["-D", this.dataDir, "-l", join(this.directory, "postgres.log"), "-o", where],
      ...["-w", "-t", PG_CTL_TIMEOUT_S, "start"],
    );
    this.#running = true;
  }

  async stop(): Promise<void> {
    await this.#sql?.end({ timeout: 1 });
    this.#sql = undefined;
    if (!this.#running) return;
    this.#running = false;
    this.#program(join(this.#install.binDir, "pg_ctl"), "-D", this.dataDir, "-w", "-m", "immediate", "stop");
  }

  async value(sql: string): Promise<unknown> {
    return Object.values((await this.sql("postgres").unsafe(sql))[0])[0];
  }

  /** A connection to one of its databases; another one's is closed. */
  sql(database: string): postgres.Sql {
    if (this.#sql?.options.database !== database) {
      this.#sql?.end();
      this.#sql = undefined;
    }
    this.#sql ??= postgres({
      path: join(this.directory, `.s.PGSQL.${PORT}`),
      database,
      username: this.#superuser,
      password: this.#password,
      max: 1,
      onnotice: () => {},
    });
    return this.#sql;
  }

  log(): string {
    try {
      return readFileSync(join(this.directory, "postgres.log"), "utf8");
    } catch {
      return "";
    }
  }

  #program(file: string, ...args: readonly string[]): void {
    const isPostgres = file.startsWith(this.#install.binDir);
    const done = spawnSync(file, args, {
      ...(isPostgres ? asUser(pgUser()) : {}),
      cwd: this.directory,
      env: postgresEnvironment(),
      stdio: ["ignore", "ignore", "ignore"],
    });
    if (done.status !== 0) throw new Error(`${file} ${args.join(" ")} failed\n${this.log()}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.stop();
    } finally {
      rmSync(this.directory, { recursive: true, force: true });
    }
  }
}
