/** Base backups that pg_basebackup takes from the page server: stock PostgreSQL starts on them, and follows the branch. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFileSync, writeFileSync } from "node:fs";
import { mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { findPostgres } from "../../src/pg_install/find_postgres.ts";
import { asUser, pgUser } from "../../src/pg_install/pg_user.ts";
import { takeBaseBackup } from "../../src/pgwire/base_backup.ts";
import { PgClient } from "../../src/pgwire/client.ts";
import { timelineOptions } from "../../src/protocol/wal_connection.ts";
import { RestoredBackup } from "../harness/restored_backup.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

/** Of this one the client programs are here. */
const WITH_PROGRAMS = 15;
const { binDir } = findPostgres(WITH_PROGRAMS);

const CONTENT = "SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)), 0) FROM t";

/** A branch with data, and where its backups come from. */
class Source implements AsyncDisposable {
  readonly env: ZenithEnv;
  readonly main: Compute;
  readonly options: string;
  readonly token: string;

  private constructor(env: ZenithEnv, main: Compute, options: string, token: string) {
    this.env = env;
    this.main = main;
    this.options = options;
    this.token = token;
  }

  static async create(major: number, safekeepers: number): Promise<Source> {
    const env = await ZenithEnv.create({ major, safekeepers });
    const main = await env.startCompute("main");
    await main.query("CREATE TABLE t (n int, v text)");
    await main.query("INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 20000) n");
    await main.query("CREATE UNLOGGED TABLE u (n int)");
    await main.query("CREATE DATABASE another");
    await using client = env.pageserver.client();
    const timeline = (await client.branchList(main.tenant)).find(({ name }) => name === "main")!.timeline_id;
    const token = await env.zenith("token", "create", "backup", "--scope", "read", "--branch", "main");
    return new Source(env, main, timelineOptions(main.tenant, timeline), token.trim());
  }

  /** Runs pg_basebackup. @returns what it says */
  take(...args: readonly string[]): string {
    const { host, port } = this.env.pageserver.address;
    const connection = `host=${host} port=${port} user=backup options='${this.options}'`;
    return program("pg_basebackup", ["-d", connection, ...args], { PGPASSWORD: this.token });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.env[Symbol.asyncDispose]();
  }
}

function program(name: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): string {
  const done = spawnSync(join(binDir, name), args, {
    ...asUser(pgUser()),
    cwd: "/tmp",
    env: { PATH: `${binDir}:/usr/bin:/bin`, ...env },
    encoding: "utf8",
  });
  if (done.status === 0) return done.stderr + done.stdout;
  throw new Error(`${name} ${args.join(" ")} failed (${done.status}):\n${done.stdout}${done.stderr}`);
}

function verify(major: number, dataDir: string): void {
  // pg_waldump of another major can't read the WAL.
  const args = major === WITH_PROGRAMS ? [dataDir] : ["-n", dataDir];
  assert.match(program("pg_verifybackup", args), /backup successfully verified/);
}

for (const major of [14, WITH_PROGRAMS]) {
  describe(`a base backup of the page server, PostgreSQL ${major}`, () => {
    let source: Source;
    before(async () => {
      source = await Source.create(major, 3);
    });
    after(() => source?.[Symbol.asyncDispose]());

    for (
      const [format, method, isRunning] of [
        ["plain", "stream", true],
        ["tar", "fetch", true],
        ["plain", "stream", false],
        ["tar", "stream", false],
      ] as const
    ) {
      const when = isRunning ? "while its Postgres writes" : "while its Postgres is stopped";
      test(`by pg_basebackup, ${format}, WAL by ${method}, ${when}, is complete`, async () => {
        const { main } = source;
        const expected = await main.value(CONTENT);
        if (!isRunning) await main.stop();
        await using backup = new RestoredBackup(major, main.password);
        const to = format === "plain" ? backup.dataDir : join(backup.directory, "tar");
        const said = source.take("-F", format, "-X", method, "-c", "fast", "-P", "-D", to);
        assert.match(said, /\(100%\), 1\/1 tablespace/);
        if (format === "tar") backup.unpackTar(to);
        else verify(major, to);
        if (!isRunning) await main.start();
        backup.start();
        assert.equal(await backup.value(CONTENT), expected);
        assert.equal(await backup.value("SELECT count(*)::int FROM u"), 0);
        await backup.value("INSERT INTO t VALUES (0, 'stock') RETURNING n");
        await main.query("INSERT INTO t SELECT n, 'later' FROM generate_series(1, 100) n");
      });
    }

    for (const isRunning of [true, false]) {
      test(`starts a standby, taken while its Postgres ${isRunning ? "writes" : "is stopped"}`, async () => {
        const { env, main } = source;
        const printed = JSON.parse(await env.zenith("pg", "standby", "main", "--json"));
        if (!isRunning) await main.stop();
        await using standby = new RestoredBackup(major, main.password);
        source.take("-X", "stream", "-c", "fast", "-D", standby.dataDir);
        if (!isRunning) await main.start();
        writeFileSync(join(standby.dataDir, "standby.signal"), "");
        const conninfo = printed.primary_conninfo.replaceAll("'", "''");
        appendFileSync(join(standby.dataDir, "postgresql.auto.conf"), `primary_conninfo = '${conninfo}'\n`);
        // It takes connections once it has heard which transactions run.
        await using session = await main.connect();
        await session.query("BEGIN; INSERT INTO t VALUES (-1, 'open')");
        await main.query("CHECKPOINT");
        standby.start("wal_retrieve_retry_interval = 200ms");
        await session.query("COMMIT");
        await main.query("INSERT INTO t SELECT n, 'streamed' FROM generate_series(1, 500) n");
        const expected = await main.value(CONTENT);
        await until("the standby has everything", async () => await standby.value(CONTENT) === expected);
        assert.equal(await standby.value("SELECT pg_promote()"), true, standby.log());
        await standby.value("INSERT INTO t VALUES (0, 'promoted') RETURNING n");
        assert.doesNotMatch(standby.log(), /PANIC|invalid resource manager|incorrect prev-link/);
      });
    }

    test("takes the time that its client gives it, and is refused in what only a PostgreSQL can do", async () => {
      const { main } = source;
      await using backup = new RestoredBackup(major, main.password);
      const begun = performance.now();
      source.take("-r", "20M", "-X", "none", "-D", backup.dataDir);
      const size = Number(
        spawnSync("du", ["-sk", backup.dataDir], { encoding: "utf8" }).stdout.split("\t")[0],
      );
      assert.ok(performance.now() - begun > size / (20 << 10) * 500, "it is not faster than it may be");
      if (major < WITH_PROGRAMS) return;
      assert.throws(
        () => source.take("-Z", "server-gzip", "-Ft", "-D", join(backup.directory, "compressed")),
        /can't make compression at the server/,
      );
    });
  });
}

for (const major of [17, 18]) {
  test(`a base backup of the page server, PostgreSQL ${major}, as a stream, is complete`, async () => {
    await using source = await Source.create(major, 1);
    const { env, main } = source;
    const expected = await main.value(CONTENT);
    await using backup = new RestoredBackup(major, main.password);
    const to = join(backup.directory, "tar");
    await mkdir(to);
    await using client = await PgClient.connect({
      ...env.pageserver.address,
      user: "backup",
      password: source.token,
      options: source.options,
      replication: true,
    });
    assert.match(client.parameters.get("server_version")!, new RegExp(`^${major}\\.`));
    await using file = await open(join(to, "base.tar"), "w");
    const pieces: Uint8Array[] = [];
    await takeBaseBackup(client, "a test", {
      archive: (tablespace) => assert.equal(tablespace, null),
      data: (bytes) => void pieces.push(Uint8Array.from(bytes)),
      async ready() {
        for (const piece of pieces.splice(0)) await file.write(piece);
      },
    });
    backup.unpackTar(to);
    backup.start();
    assert.equal(await backup.value(CONTENT), expected);
  });
}
