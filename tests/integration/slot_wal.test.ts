/** The WAL that replication slots need costs a lazy compute nothing at its start: it is fetched when somebody reads it. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { formatLsn, parseLsn } from "../../src/common/lsn.ts";
import { findPostgres } from "../../src/pg_install/find_postgres.ts";
import { makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import {
  parseWalFileName,
  segmentStart,
  WAL_SEGMENT_SIZE_DEFAULT as SEGMENT,
} from "../../src/postgres/wal/page_header.ts";
import { addSettings } from "../harness/branching.ts";
import { TEST_PG_MAJOR } from "../harness/postgres_major.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

/** How many segments the slots are behind. */
const BEHIND = 8;

/** npm's builds have no client programs, and those of 15 speak to no newer walsender. */
const PROGRAMS = findPostgres(15).binDir;
const HAS_PROGRAMS = new Set([14, 15]);
const NO_PROGRAMS = "the client programs here are those of 15";

for (const major of new Set([TEST_PG_MAJOR, 18])) {
  describe(`slots that are far behind on a lazy compute of PostgreSQL ${major}`, () => {
    let env: ZenithEnv;
    let main: Compute;
    let archive: string;
    /** What the logical slot gives, as Postgres decodes it while it has all WAL. */
    let decoded: unknown;
    let from: string;

    before(async () => {
      env = await ZenithEnv.create({ major, safekeepers: 1, storage: "lazy" });
      archive = join(env.dir, "archive");
      makeOwnedDirectory(archive, pgUser());
      main = await env.createCompute("main");
      // As PostgreSQL's manual has it: it refuses what is there.
      const command = `test ! -f ${archive}/%f && cp %p ${archive}/%f`;
      addSettings(main, "wal_level = logical", "archive_mode = on", `archive_command = '${command}'`);
      await main.start();
    });
    after(() => env?.[Symbol.asyncDispose]());

    const PEEK = "SELECT md5(string_agg(data, '' ORDER BY lsn, ordinality)) FROM " +
      "pg_logical_slot_peek_binary_changes('old', NULL, NULL, 'proto_version', '1', 'publication_names', 'p') " +
      "WITH ORDINALITY";

    /** The segments that are links, in order. */
    function links(): string[] {
      const entries = readdirSync(join(main.paths.pgdata, "pg_wal"), { withFileTypes: true });
      return entries.filter((entry) => entry.isSymbolicLink()).map(({ name }) => name).sort();
    }

    /** How much the last start has fetched with its data directory. */
    function fetchedBytes(): number {
      const line = main.log().split("\n").filter((line) => line.includes("data directory fetched")).at(-1)!;
      return Number(/"?bytes"?[:=] ?(\d+)/.exec(line)![1]);
    }

    async function untilArchived(): Promise<void> {
      const last = String(await main.value("SELECT pg_walfile_name(pg_switch_wal())"));
      await until(`${last} is archived`, () => readdirSync(archive).includes(last));
    }

    test("a start fetches nothing for them", async () => {
      await main.query("CREATE TABLE t (n int PRIMARY KEY, v text); CREATE PUBLICATION p FOR TABLE t");
      const without = fetchedBytes();
      await main.query("SELECT pg_create_logical_replication_slot('old', 'pgoutput')");
      await main.query("SELECT pg_create_physical_replication_slot('standby', true)");
      from = String(
        await main.value("SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'standby'"),
      );
      for (let i = 0; i < BEHIND; i++) {
        await main.query(
          `BEGIN; ALTER TABLE t ADD COLUMN w${i} text DEFAULT 'x'; ` +
            `INSERT INTO t SELECT generate_series(${i * 100 + 1}, ${i * 100 + 100}); COMMIT`,
        );
        if (i === 2) {
          for (const name of ["pg_attribute", "pg_class"]) await main.query(`VACUUM FULL ${name}`);
        }
        await untilArchived();
      }
      decoded = await main.value(PEEK);
      await main.kill9();
      await main.start();
      assert.ok(links().length >= BEHIND, `${links().length} links`);
      assert.ok(fetchedBytes() < without + SEGMENT, `${fetchedBytes()} bytes, ${without} without slots`);
    });

    test("a reader gets an error while the page server is away, and all changes when it is back", async () => {
      await env.pageserver.kill9();
      // It needs nothing but WAL: a session may wait for pages of catalogs.
      assert.throws(() => readFileSync(join(main.paths.pgdata, "pg_wal", links()[0])), { code: "EIO" });
      await env.pageserver.start();
      await until("it can be read", () => main.value(PEEK).then((now) => now === decoded, () => false));
    });

    test("segments are what was archived, by their names and for pg_receivewal", async () => {
      const names = links();
      for (const name of names) {
        const file = readFileSync(join(main.paths.pgdata, "pg_wal", name));
        assert.ok(file.equals(readFileSync(join(archive, name))), name);
      }
      const sizes = await main.query("SELECT name, size FROM pg_ls_waldir()");
      for (const name of names) {
        assert.equal(Number(sizes.find((row) => row["name"] === name)?.["size"]), SEGMENT);
      }
      // Before 15, a server does not say where a slot is, and pg_receivewal begins at the end.
      if (major !== 15) return;
      const received = join(env.dir, "received");
      mkdirSync(received);
      const end = formatLsn(parseWalFileName(names.at(-1)!, SEGMENT)!.lsn);
      const args = ["-d", main.conninfo, "-D", received, "-S", "standby", "--endpos", end, "--no-loop"];
      const done = spawnSync(join(PROGRAMS, "pg_receivewal"), args, { encoding: "utf8" });
      assert.equal(done.status, 0, done.stderr);
      const whole = readdirSync(received).filter((name) => !name.endsWith(".partial"));
      assert.ok(whole.length >= BEHIND - 1);
      const first = segmentStart(parseLsn(from), SEGMENT);
      for (const name of whole) {
        assert.ok(parseWalFileName(name, SEGMENT)!.lsn >= first);
        assert.ok(readFileSync(join(received, name)).equals(readFileSync(join(archive, name))), name);
      }
    });

    test("a backup takes no link along", { skip: HAS_PROGRAMS.has(major) ? false : NO_PROGRAMS }, () => {
      for (const wal of ["stream", "fetch"]) {
        const directory = join(env.dir, `backup_${wal}`);
        const args = ["-d", main.conninfo, "-D", directory, "-c", "fast", "-X", wal];
        const done = spawnSync(join(PROGRAMS, "pg_basebackup"), args, { encoding: "utf8" });
        assert.equal(done.status, 0, done.stderr);
        const found = readdirSync(directory, { recursive: true, withFileTypes: true });
        assert.deepEqual(found.filter((entry) => entry.isSymbolicLink()).map(({ name }) => name), []);
      }
    });

    test("a Postgres that is made elsewhere gives the same changes", async () => {
      await env.zenith("pg", "stop", "main", "--destroy");
      main = await env.createCompute("main");
      await main.start();
      assert.ok(links().length >= BEHIND, `${links().length} links`);
      assert.equal(await main.value(PEEK), decoded);
    });

    test("they go when the slots have passed them, and are not archived again", async () => {
      assert.ok(readlinkSync(join(main.paths.pgdata, "pg_wal", links()[0])).startsWith(main.paths.mount));
      await main.query("SELECT pg_drop_replication_slot('standby')");
      await main.query(
        "SELECT count(*) FROM " +
          "pg_logical_slot_get_binary_changes('old', NULL, NULL, 'proto_version', '1', 'publication_names', 'p')",
      );
      await main.query("SELECT pg_replication_slot_advance('old', pg_current_wal_insert_lsn())");
      await until("they are gone", async () => {
        await main.query("CHECKPOINT");
        await main.query("SELECT pg_replication_slot_advance('old', pg_current_wal_insert_lsn())");
        return links().length === 0;
      });
      await untilArchived();
      assert.equal(Number(await main.value("SELECT failed_count FROM pg_stat_archiver")), 0);
      for (const name of readdirSync(archive)) assert.ok(statSync(join(archive, name)).isFile());
      await main.stop();
    });
  });
}
