/** Our wire protocol against the real thing: psql and postgres.js against our server, our client against Postgres. */
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import postgres from "postgres";
import { type Lsn, lsn } from "../../src/common/lsn.ts";
import { postgresEnvironment, runInitdb } from "../../src/pg_install/initdb.ts";
import { asUser, chownRecursive, pgUser } from "../../src/pg_install/pg_user.ts";
import { PgClient } from "../../src/pgwire/client.ts";
import * as replication from "../../src/pgwire/replication.ts";
import { PgServer } from "../../src/pgwire/server.ts";
import type { ConnectionHandler } from "../../src/pgwire/session.ts";
import { PgError } from "../../src/pgwire/sqlstate.ts";
import { testPostgres } from "../harness/postgres_major.ts";

const install = testPostgres();
const COLUMNS = [{ name: "word", type: "text" }, { name: "n", type: "int8" }] as const;

/** Answers `word …` with its parameters, and a COPY OUT. */
const sample: ConnectionHandler = {
  describe: (_session, sql) => sql.startsWith("word") ? COLUMNS : null,
  async query(session, sql, params) {
    if (sql.startsWith("word")) {
      session.sendRows(COLUMNS, [[params[0] ?? "none", 42]]);
    } else if (sql.startsWith("copyout")) {
      await session.copyOut((async function* () {
        for (let i = 0; i < 20; i++) yield new Uint8Array(1_000_000).fill(65 + i);
      })());
    } else {
      throw new PgError("42601", `unknown command ${sql}`, { hint: "say word" });
    }
  },
};

interface Output {
  code: number;
  stdout: string;
  stderr: string;
}

function psql(uri: string, args: readonly string[], input = ""): Promise<Output> {
  return new Promise((resolve) => {
    const child = execFile(
      join(install.binDir, "psql"),
      ["-X", "-A", "-t", ...args, uri],
      { maxBuffer: 64 << 20, timeout: 30_000 },
      (error, stdout, stderr) => resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
    child.stdin!.end(input);
  });
}

describe("our server", () => {
  const server = new PgServer(sample);
  let uri = "";
  before(async () => {
    const { host, port } = await server.listen({ host: "127.0.0.1", port: 0 });
    uri = `postgresql://zoe@${host}:${port}/main`;
  });
  after(() => server.close());

  test("answers psql", async () => {
    assert.deepEqual(await psql(uri, ["-c", "word"]), { code: 0, stdout: "none|42\n", stderr: "" });
    const failed = await psql(uri, ["-c", "nonsense"]);
    assert.equal(failed.code, 1);
    assert.equal(failed.stderr, "ERROR:  unknown command nonsense\nHINT:  say word\n");
  });

  test("answers psql's \\gdesc", async () => {
    assert.equal((await psql(uri, [], "word \\gdesc\n")).stdout, "word|text\nn|bigint\n");
  });

  test("streams COPY OUT to psql", async () => {
    const { stdout } = await psql(uri, ["-c", "copyout"]);
    assert.equal(stdout.length, 20_000_000);
    assert.equal(stdout[0] + stdout[stdout.length - 1], "AT");
  });

  test("answers postgres.js, with and without prepared statements", async () => {
    for (const prepare of [true, false]) {
      const sql = postgres(uri, { max: 1, fetch_types: false, prepare });
      try {
        for (const word of ["first", "second"]) {
          assert.deepEqual([...await sql`word ${word}`].map((row) => ({ ...row })), [{ word, n: "42" }]);
        }
        await assert.rejects(async () => await sql`nonsense ${"x"}`, { code: "42601", hint: "say word" });
        assert.equal((await sql.unsafe("word")).length, 1);
        assert.equal((await sql`word`)[0].word, "none");
      } finally {
        await sql.end();
      }
    }
  });
});

describe("our client against Postgres", () => {
  const dir = mkdtempSync(join(tmpdir(), "zenith-pgwire-"));
  const data = join(dir, "data");
  let postmaster: ChildProcess | undefined;
  let port = 0;

  before(async () => {
    chownRecursive(dir, pgUser());
    await runInitdb({ install, dir: data, superuser: "admin" });
    writeFileSync(
      join(data, "pg_hba.conf"),
      [
        "local all admin trust",
        "local replication admin trust",
        "host all zoe_scram 127.0.0.1/32 scram-sha-256",
        "host all zoe_md5 127.0.0.1/32 md5",
        "host all zoe_clear 127.0.0.1/32 password",
      ].join("\n") + "\n",
    );
    port = await freePort();
    appendFileSync(
      join(data, "postgresql.conf"),
      `listen_addresses = '127.0.0.1'\nport = ${port}\nunix_socket_directories = '${dir}'\nfsync = off\n`,
    );
    postmaster = spawn(join(install.binDir, "postgres"), ["-D", data], {
      ...asUser(pgUser()),
      cwd: data,
      env: postgresEnvironment(),
      stdio: ["ignore", "ignore", "pipe"],
    });
    await new Promise<void>((resolve, reject) => {
      let log = "";
      postmaster!.stderr!.setEncoding("utf8").on("data", (text: string) => {
        log += text;
        if (log.includes("ready to accept connections")) resolve();
      });
      postmaster!.on("exit", () => reject(new Error(`Postgres did not start: ${log}`)));
    });
    await using client = await PgClient.connect({ host: dir, port, user: "admin", database: "postgres" });
    await client.query(
      "CREATE ROLE zoe_scram LOGIN PASSWORD 'sécret'; CREATE ROLE zoe_clear LOGIN PASSWORD 'sécret'",
    );
    await client.query("SET password_encryption = md5; CREATE ROLE zoe_md5 LOGIN PASSWORD 'sécret'");
  });

  after(async () => {
    if (postmaster !== undefined && postmaster.exitCode === null) {
      const exited = once(postmaster, "exit");
      postmaster.kill("SIGINT");
      await exited;
    }
    rmSync(dir, { recursive: true, force: true });
  });

  const admin = () => PgClient.connect({ host: dir, port, user: "admin", database: "postgres" });

  for (const user of ["zoe_scram", "zoe_md5", "zoe_clear"]) {
    test(`logs in as ${user}, and not with a wrong password`, async () => {
      const where = { host: "127.0.0.1", port, user, database: "postgres" };
      await using client = await PgClient.connect({ ...where, password: "sécret" });
      assert.deepEqual((await client.query("SELECT current_user")).rows, [[user]]);
      await assert.rejects(
        PgClient.connect({ ...where, password: "wrong" }),
        (error) => error instanceof PgError && error.sqlstate === "28P01",
      );
    });
  }

  test("sets options from the startup packet", async () => {
    await using client = await PgClient.connect({
      host: dir,
      port,
      user: "admin",
      database: "postgres",
      options: "-c zenith.word=two\\ words",
    });
    assert.deepEqual((await client.query("SHOW zenith.word")).rows, [["two words"]]);
  });

  test("reads COPY OUT and reports an error in the middle of it", async () => {
    await using client = await admin();
    let bytes = 0;
    for await (
      const chunk of client.copyOut("COPY (SELECT repeat('x', 999) FROM generate_series(1, 5000)) TO STDOUT")
    ) {
      bytes += chunk.length;
    }
    assert.equal(bytes, 5_000_000);
    await assert.rejects(async () => {
      for await (
        const _ of client.copyOut("COPY (SELECT 1 / (3 - i) FROM generate_series(1, 5) i) TO STDOUT")
      );
    }, (error) => error instanceof PgError && error.sqlstate === "22012");
    assert.deepEqual((await client.query("SELECT 1")).rows, [["1"]]);
  });

  test("streams WAL by physical replication without a gap", async () => {
    await using client = await admin();
    await using walsender = await PgClient.connect({ host: dir, port, user: "admin", replication: true });
    const { xlogpos, timeline } = await replication.identifySystem(walsender);
    await replication.createPhysicalSlot(walsender, "pgwire_test");
    await replication.createPhysicalSlot(walsender, "pgwire_test");
    const start = lsn(xlogpos - (xlogpos % 8192));
    const stream = await replication.startReplication(walsender, {
      slot: "pgwire_test",
      startLsn: start,
      timeline,
    });
    await client.query("CREATE TABLE t AS SELECT generate_series(1, 20000) AS i");
    const [[insertLsn]] = (await client.query("SELECT pg_current_wal_lsn() - '0/0'")).rows;
    const target = Number(insertLsn);
    let next: number = start;
    await stream.run({
      onWal(at, bytes, off, len) {
        assert.equal(at, next);
        if (at % 8192 === 0) {
          assert.equal(bytes[off] | (bytes[off + 1] << 8), 0xd110, "a WAL page of version 15");
        }
        next += len;
        stream.standbyStatusUpdate(next as Lsn, next as Lsn, next as Lsn);
        if (next >= target) stream.end();
      },
      onKeepalive() {},
    });
    assert.ok(next >= target);
    assert.equal((await replication.identifySystem(walsender)).timeline, timeline);
    await client.query("SELECT pg_drop_replication_slot('pgwire_test')");
  });
});

async function freePort(): Promise<number> {
  const probe = new PgServer(sample);
  const { port } = await probe.listen({ host: "127.0.0.1", port: 0 });
  await probe.close();
  return port;
}
