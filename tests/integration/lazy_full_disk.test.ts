/** A lazy compute whose disk fills up: Postgres is told so, as by any file system, and goes on when there is room. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { checkPidFile } from "../../src/process/pid_file.ts";
import { ACCOUNTS_CONTENT, createAccounts } from "../harness/accounts.ts";
import { addSettings } from "../harness/branching.ts";
import { dropPageCache } from "../harness/lazy_files.ts";
import { amcheck } from "../harness/programs.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

const DISK_MB = 512;
/** Of other people, in the beginning. */
const BALLAST_MB = 150;
const ROWS = 20_000;
/** Not logged: WAL is on the same disk. More than the disk has. */
const FILL = "INSERT INTO filler SELECT repeat(md5(n::text), 60) FROM generate_series(1, 300000) n";
/** When it makes a file longer, has to write back a buffer, or begins a temporary file. */
const NO_SPACE = /could not (?:extend|write|create) .*: No space left on device/;

const skip = process.getuid?.() !== 0 && "a small disk is root's to mount";

describe("a lazy compute on a disk that fills up", { skip }, () => {
  let env: ZenithEnv;
  let compute: Compute;
  let disk: string;

  before(async () => {
    if (skip !== false) return;
    env = await ZenithEnv.create({ storage: "lazy" });
    disk = env.paths.computes(env.defaultTenant);
    mkdirSync(disk, { recursive: true });
    const run = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${DISK_MB}m,mode=755`, "tmpfs", disk], {
      encoding: "utf8",
    });
    assert.equal(run.status, 0, run.stderr);
    compute = await env.createCompute("main");
    const settings = ["shared_buffers = '16MB'", "min_wal_size = '32MB'", "max_wal_size = '64MB'"];
    addSettings(compute, ...settings, "autovacuum = off");
    await compute.start();
    await createAccounts(compute, ROWS);
    await compute.query("CREATE UNLOGGED TABLE filler (t text)");
    await compute.query("ALTER TABLE filler ALTER t SET STORAGE plain");
    await compute.restart();
  });
  after(async () => {
    if (skip !== false) return;
    await compute?.[Symbol.asyncDispose]();
    env.killEverything();
    spawnSync("umount", ["-l", disk]);
    await env[Symbol.asyncDispose]();
  });

  test("refuses what does not fit, and goes on when there is room again", async () => {
    const ballast = join(disk, "ballast");
    writeFileSync(ballast, new Uint8Array(BALLAST_MB << 20));
    const supervisor = checkPidFile(compute.paths.pidFile);
    const content = await compute.value(ACCOUNTS_CONTENT);
    await compute.query("UPDATE accounts SET balance = id WHERE id % 10 = 0");
    const changed = await compute.value(ACCOUNTS_CONTENT);
    assert.notEqual(changed, content);

    await assert.rejects(compute.query(FILL), NO_SPACE);
    assert.match(await env.zenith("pg", "list"), /the disk of .* is full/);
    assert.match(compute.log(), /the disk of .* is full: Postgres gets \\"No space left on device\\"/);
    assert.match(compute.postgresLog(), NO_SPACE);

    // What is there is right, in memory and on the disk, though buffers must be written back to read it.
    assert.equal(await compute.value(ACCOUNTS_CONTENT), changed);
    await compute.query("CHECKPOINT");
    dropPageCache(compute.paths);
    assert.equal(await compute.value(ACCOUNTS_CONTENT), changed);
    await amcheck(compute, ["postgres"]);
    await assert.rejects(compute.query(FILL), NO_SPACE);

    rmSync(ballast);
    await until("there is room again", async () => !/is full/.test(await env.zenith("pg", "list")));
    await compute.query("TRUNCATE filler");
    await compute.query("INSERT INTO filler SELECT repeat(md5(n::text), 60) FROM generate_series(1, 1000) n");
    await compute.query("UPDATE accounts SET balance = balance + 1");
    await compute.query("CHECKPOINT");
    const later = await compute.value(ACCOUNTS_CONTENT);
    dropPageCache(compute.paths);
    assert.equal(await compute.value(ACCOUNTS_CONTENT), later);
    assert.equal(await compute.value("SELECT count(*) FROM filler"), "1000");
    assert.deepEqual(checkPidFile(compute.paths.pidFile), supervisor);
    await compute.restart();
    assert.equal(await compute.value(ACCOUNTS_CONTENT), later);
    await amcheck(compute, ["postgres"]);
  });

  test("can be stopped and started while its disk is full", async () => {
    await compute.query("UPDATE accounts SET balance = balance + 1");
    const content = await compute.value(ACCOUNTS_CONTENT);
    await assert.rejects(compute.query(FILL), NO_SPACE);
    await compute.stop();
    await compute.start();
    assert.equal(await compute.value(ACCOUNTS_CONTENT), content);
    assert.equal(await compute.value("SELECT count(*) FROM filler"), "0");
    await amcheck(compute, ["postgres"]);
  });
});
