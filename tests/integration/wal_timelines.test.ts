/** A start that may have lost WAL goes over to another timeline of PostgreSQL, which tells every stock reader where it is. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { appendFileSync, existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { formatLsn, type Lsn, parseLsn } from "../../src/common/lsn.ts";
import { makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import { recordEndLsn } from "../../src/postgres/wal/page_header.ts";
import { addSettings } from "../harness/branching.ts";
import { Connection } from "../harness/connection.ts";
import { freePort } from "../harness/ports.ts";
import { clientProgram } from "../harness/postgres_major.ts";
import { RestoredBackup, streamBackup } from "../harness/restored_backup.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

/** Of this one pg_basebackup and pg_receivewal are here. */
const WITH_PROGRAMS = 15;
const NEWEST = 18;

const SEGMENT = 16 << 20;
/** More than a start writes by itself, and than one message. */
const FAR_BYTES = 3_000_000;
const MESSAGE_MAX_BYTES = 100_000;

const CONTENT = "SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)), 0) FROM t";
const TIMELINE = "SELECT timeline_id FROM pg_control_checkpoint()";

for (const major of [WITH_PROGRAMS, NEWEST]) {
  describe(`PostgreSQL ${major} that has lost WAL`, () => {
    let env: ZenithEnv;
    let main: Compute;
    let archive: string;
    /** On timeline 1. */
    let first: { readonly lsn: string; readonly content: unknown };

    before(async () => {
      env = await ZenithEnv.create({ major, safekeepers: 3 });
      main = await env.createCompute("main");
      archive = join(env.dir, "archive");
      makeOwnedDirectory(archive, pgUser());
      addSettings(
        main,
        "wal_level = logical",
        "archive_mode = on",
        `archive_command = 'test ! -e ${archive}/%f && cp %p ${archive}/%f'`,
      );
      await main.start();
      await main.query("CREATE TABLE t (n int, v text)");
      await main.query("INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 5000) n");
      await main.query("CREATE PUBLICATION p FOR TABLE t");
      await main.query("SELECT pg_create_logical_replication_slot('l', 'pgoutput')");
      await main.query("INSERT INTO t VALUES (-100, 'decoded')");
      await main.query("SELECT pg_switch_wal()");
      // Nobody else is to write WAL.
      await main.query("ALTER SYSTEM SET autovacuum = off");
      await main.query("SELECT pg_reload_conf()");
    });
    after(() => env?.[Symbol.asyncDispose]());

    /** Makes a standby of the branch's Postgres. */
    async function makeStandby(primary: string, slot = ""): Promise<RestoredBackup> {
      const standby = new RestoredBackup(major, main.password);
      const to = join(standby.directory, "tar");
      await streamBackup(main, to);
      standby.unpackTar(to);
      appendFileSync(join(standby.dataDir, "standby.signal"), "");
      standby.start(
        `primary_conninfo = '${primary.replaceAll("'", "''")}'`,
        `primary_slot_name = '${slot}'`,
        "wal_retrieve_retry_interval = 200ms",
      );
      return standby;
    }

    async function ofSafekeepers(slot: string): Promise<string> {
      const printed = await env.zenith("pg", "standby", "main", "-D", "/nowhere", "--slot", slot);
      return /primary_conninfo = '(.*)'$/m.exec(printed)![1]!.replaceAll("''", "'");
    }

    async function follows(standby: RestoredBackup): Promise<void> {
      await main.query("INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 50) n");
      const expected = await main.value(CONTENT);
      await until(
        "the standby has everything",
        async () => await standby.value(CONTENT) === expected,
        40_000,
      ).catch((error: unknown) => {
        throw new Error(`${error}\n${standby.log().split("\n").slice(-30).join("\n")}`);
      });
    }

    /**
     * Stops, until disposed of, what else writes WAL unasked: the background writer, a record of running
     * transactions every 15 seconds. An orderly stop would wait for it.
     */
    async function holdBackgroundWriter(): Promise<Disposable> {
      const pid = Number(
        await main.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'background writer'"),
      );
      process.kill(pid, "SIGSTOP");
      return {
        [Symbol.dispose]() {
          try {
            process.kill(pid, "SIGCONT");
          } catch {
            // Killed with its Postgres.
          }
        },
      };
    }

    /** Writes until a record that ends a transaction lies between the two returned positions. */
    async function commitAt(session: Connection, wanted: Lsn | null): Promise<{ from: Lsn; to: Lsn }> {
      const here = async (): Promise<Lsn> =>
        parseLsn(String((await session.query("SELECT pg_current_wal_insert_lsn() AS lsn"))[0]!["lsn"]));
      const message = (length: number): Promise<unknown> =>
        session.query(`SELECT pg_logical_emit_message(false, 'p', repeat('x', ${length}))`);
      const steps: string[] = [];
      if (wanted !== null) {
        const overhead = await (async () => {
          for (;;) {
            const before = await here();
            await message(1000);
            const end = await here();
            if (before % 8192 + 2000 < 8192) return end - before - 1000;
          }
        })();
        for (let at = await here(); at !== wanted; at = await here()) {
          assert.ok(
            at < wanted - 300,
            `${formatLsn(at)} is too near to ${formatLsn(wanted)}: ${steps.join()}`,
          );
          let length = Math.min(MESSAGE_MAX_BYTES, wanted - at - overhead);
          const end = (bytes: number): Lsn =>
            recordEndLsn(at, overhead + bytes - (overhead + bytes) % 8, SEGMENT);
          while (end(length) > wanted || (end(length) < wanted && end(length) > wanted - 300)) length -= 8;
          await message(length);
          steps.push(`${formatLsn(at)}+${length}=${formatLsn(end(length))}`);
        }
      }
      const from = await here();
      await session.query("SELECT pg_current_xact_id()");
      return { from, to: await here() };
    }

    test("tells a standby that is ahead to go, and takes everybody else along", async () => {
      await using ahead = await makeStandby(main.conninfo);
      await using behind = await makeStandby(main.conninfo);
      await using safe = await makeStandby(await ofSafekeepers("safe"), "safe");
      for (const standby of [ahead, behind, safe]) await follows(standby);
      assert.equal(await main.value(TIMELINE), 1);
      first = { lsn: await main.lsn(), content: await main.value(CONTENT) };
      const receiver = major === WITH_PROGRAMS
        ? await receive("received", await ofSafekeepers("receiver"))
        : null;
      // What comes first after a checkpoint has page images.
      await main.query("CHECKPOINT");
      await follows(behind);
      await behind.stop();
      for (const safekeeper of env.safekeepers) await safekeeper.kill9();
      let last: { from: Lsn; to: Lsn };
      {
        using _held = await holdBackgroundWriter();
        const start = parseLsn(await main.lsn());
        await using session = await main.connect();
        await session.query("SET synchronous_commit = local");
        await session.query("INSERT INTO t VALUES (-1, 'lost')");
        last = await commitAt(session, (start + FAR_BYTES - start % 8192 + 4000) as Lsn);
        await until("the standby is ahead", async () => {
          const at = await ahead.value("SELECT pg_last_wal_replay_lsn()::text");
          return parseLsn(String(at)) >= last.to;
        });
        assert.equal(await ahead.value("SELECT count(*)::int FROM t WHERE n = -1"), 1);
        assert.equal(parseLsn(String(await ahead.value("SELECT pg_last_wal_replay_lsn()::text"))), last.to);
        await main.kill9();
      }
      for (const safekeeper of env.safekeepers) await safekeeper.start();
      rmSync(join(main.paths.pgdata, "pg_wal"), { recursive: true });
      await main.start();
      // The branch's new WAL has a record exactly where the standby's last one is, and as long.
      {
        using _held = await holdBackgroundWriter();
        await using session = await main.connect();
        const again = await commitAt(session, last.from);
        assert.deepEqual(again, last);
      }
      behind.startAgain();
      await follows(behind);
      await follows(safe);
      const log =
        /new timeline 2 forked off current database system timeline 1 before current recovery point/;
      await until("the standby is told", () => log.test(ahead.log()), 20_000).catch((error: unknown) => {
        throw new Error(`${error}\n${ahead.log().split("\n").slice(-30).join("\n")}`);
      });
      assert.equal(await ahead.value("SELECT count(*)::int FROM t WHERE n = -1"), 1);
      assert.equal(await main.value("SELECT count(*)::int FROM t WHERE n = -1"), 0);
      assert.equal(parseLsn(String(await ahead.value("SELECT pg_last_wal_replay_lsn()::text"))), last.to);
      assert.equal(await main.value(TIMELINE), 2);
      // An orderly stop loses nothing, and neither does a kill after which the directory is there.
      await main.restart();
      await main.kill9();
      await main.start();
      assert.equal(await main.value(TIMELINE), 2);
      for (const standby of [behind, safe]) await follows(standby);
      // Once more, twice in a segment: who was away meanwhile goes on too.
      await safe.stop();
      await behind.stop();
      for (let n = 0; n < 2; n++) {
        await main.query("INSERT INTO t VALUES (0, 'kept')");
        await main.kill9();
        rmSync(join(main.paths.pgdata, "pg_wal"), { recursive: true });
        await main.start();
      }
      await env.pageserver.restart();
      for (const safekeeper of env.safekeepers) {
        await safekeeper.kill9();
        await safekeeper.start();
      }
      assert.equal(await main.value(TIMELINE), 4);
      for (const standby of [behind, safe]) {
        standby.startAgain();
        await follows(standby);
      }
      assert.equal(await safe.value("SELECT pg_promote()"), true, safe.log());
      await main.query("SELECT pg_switch_wal()");
      await until("the histories are archived", () => {
        return [2, 3, 4].every((tli) => existsSync(join(archive, `0000000${tli}.history`)));
      });
      await until(
        "the segment is archived",
        () => readdirSync(archive).some((name) => /^00000004[0-9A-F]{16}$/.test(name)),
      );
      if (receiver === null) return;
      await until(
        "pg_receivewal has gone on",
        () => readdirSync(receiver.directory).some((name) => /^00000004[0-9A-F]{16}$/.test(name)),
      );
      receiver.child.kill();
    });

    function receive(name: string, connection: string) {
      const directory = join(env.dir, name);
      mkdirSync(directory);
      const args = ["-D", directory, "-d", connection, "--no-sync"];
      return { directory, child: spawn(clientProgram("pg_receivewal"), args, { stdio: "ignore" }) };
    }

    test("is decoded, branched, read in the past, exported and followed by a replica", async () => {
      const content = await main.value(CONTENT);
      const decoded = await main.value(
        "SELECT count(*)::int FROM pg_logical_slot_get_binary_changes('l', NULL, NULL, " +
          "'proto_version', '1', 'publication_names', 'p') WHERE get_byte(data, 0) = ascii('I')",
      );
      const rows = await main.value("SELECT count(*)::int - 5000 FROM t");
      assert.equal(decoded, rows);
      await using exported = new RestoredBackup(major, main.password);
      await env.untilArrived();
      await env.zenith("export", "main", "--to", exported.dataDir);
      exported.start();
      assert.equal(await exported.value(CONTENT), content);
      const started = await env.zenith(
        "pg",
        "start",
        "main",
        "--replica",
        "--json",
        "--port",
        String(await freePort()),
      );
      const { name, uri } = JSON.parse(started);
      const { port, password } = new URL(uri);
      await using replica = await Connection.open({ host: "127.0.0.1", port: Number(port) }, { password });
      assert.equal(await replica.value(CONTENT), content);
      for (
        const [branchName, start, tli, expected] of [
          ["then", `main@${first.lsn}`, 1, first.content],
          ["now", "main", 5, content],
        ] as const
      ) {
        await env.branch(branchName, start);
        const branch = await env.startCompute(branchName);
        assert.equal(await branch.value(CONTENT), expected);
        assert.equal(await branch.value(TIMELINE), tli);
        await branch.query("INSERT INTO t VALUES (7, 'own')");
        await branch.kill9();
        rmSync(join(branch.paths.pgdata, "pg_wal"), { recursive: true });
        await branch.start();
        assert.equal(await branch.value(TIMELINE), tli + 1);
        assert.equal(await branch.value("SELECT count(*)::int FROM t WHERE v = 'own'"), 1);
        await branch.stop();
      }
      await main.kill9();
      rmSync(join(main.paths.pgdata, "pg_wal"), { recursive: true });
      await main.start();
      await main.query("INSERT INTO t VALUES (8, 'replicated')");
      await until("the replica goes on", async () => {
        await using again = await Connection.open({ host: "127.0.0.1", port: Number(port) }, { password });
        return await again.value("SELECT count(*)::int FROM t WHERE n = 8 AND v = 'replicated'") === 1;
      });
      await env.zenith("pg", "stop", name);
    });
  });
}
