/** Backups of a running compute by PostgreSQL's own means, each restored, started and compared with the compute. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { runProgram } from "../harness/programs.ts";
import { RestoredBackup, streamBackup } from "../harness/restored_backup.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

/** Of the one pg_basebackup is here; of the newest the server's side of it alone. */
const WITH_PROGRAM = 15;
const NEWEST = 18;

const CONTENT = "SELECT count(*) || ' ' || sum(hashtextextended(t::text, 0)) FROM things t";

/** A compute that has read back what another start has written, and has written more since. */
async function fill(pg: Compute): Promise<void> {
  await pg.query("CREATE TABLE things (id int PRIMARY KEY, word text)");
  await pg.query("INSERT INTO things SELECT n, repeat(md5(n::text), 9) FROM generate_series(1, 20000) n");
  await pg.query("CREATE DATABASE another");
  await pg.restart();
  await pg.query("UPDATE things SET word = 'new' WHERE id % 100 = 0");
  await pg.query("CREATE TABLE here (n int)", { database: "another" });
}

async function assertSame(backup: RestoredBackup, pg: Compute): Promise<void> {
  assert.equal(await backup.value(CONTENT), await pg.value(CONTENT));
  assert.equal(await backup.value("SELECT count(*)::int FROM pg_database"), 4);
}

/** A compute's disk is a cache, and somebody else makes its commits durable; of what is restored neither is true. */
async function assertItsOwn(backup: RestoredBackup): Promise<void> {
  assert.equal(await backup.value("SHOW fsync"), "on");
  assert.equal(await backup.value("SHOW full_page_writes"), "on");
  assert.equal(await backup.value("SHOW synchronous_standby_names"), "");
  assert.equal(await backup.value("INSERT INTO things VALUES (-1, 'restored') RETURNING id"), -1);
  for (const name of ["postgresql.conf", "postgresql.auto.conf"]) {
    assert.doesNotMatch(readFileSync(join(backup.dataDir, name), "utf8"), /zenith\.|^port/m);
  }
}

describe(`a base backup of PostgreSQL ${WITH_PROGRAM}`, () => {
  let env: ZenithEnv;
  let pg: Compute;

  before(async () => {
    env = await ZenithEnv.create({ major: WITH_PROGRAM });
    pg = await env.startCompute("main");
    await fill(pg);
  });
  after(() => env?.[Symbol.asyncDispose]());

  for (const [format, method] of [["tar", "fetch"], ["tar", "stream"], ["plain", "stream"]] as const) {
    test(`by pg_basebackup, ${format}, WAL by ${method}, is complete`, async () => {
      await using backup = new RestoredBackup(WITH_PROGRAM, pg.password);
      const to = format === "plain" ? backup.dataDir : join(backup.directory, "tar");
      await runProgram(pg, "pg_basebackup", ["-c", "fast", "-F", format, "-X", method, "-D", to]);
      if (format === "tar") backup.unpackTar(to);
      backup.start();
      await assertSame(backup, pg);
      await assertItsOwn(backup);
    });
  }
});

test(`a base backup of PostgreSQL ${NEWEST}, as a stream, is complete`, async () => {
  await using env = await ZenithEnv.create({ major: NEWEST });
  const pg = await env.startCompute("main");
  await fill(pg);
  await using backup = new RestoredBackup(NEWEST, pg.password);
  const to = join(backup.directory, "tar");
  await streamBackup(pg, to);
  backup.unpackTar(to);
  backup.start();
  await assertSame(backup, pg);
  await assertItsOwn(backup);
});
