/**
 * Supervisor, the thread that serves its files, and Postgres are one unit: none lives on without the others, and what was acknowledged
 * is there after the next start. `ZENITH_KILL_ROUNDS` repeats every kind of death that often.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { checkPidFile, holdsPidFile, isRunning, type ProcessIdentity } from "../../src/process/pid_file.ts";
import { postmasterPid } from "../../src/compute/postgres/postgres_process.ts";
import { isMounted } from "../harness/lazy_files.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";
import { clientProgram } from "../harness/postgres_major.ts";

const ROUNDS = Number(process.env["ZENITH_KILL_ROUNDS"] ?? 2);
const WRITERS = 4;
/** Immediate shutdown kills what does not end by itself after 5 s. */
const DEATH_TIMEOUT_MS = 10_000;
/** What every writer has committed before anybody dies. */
const COMMITS = 20;

/** Only root starts others in a mount namespace of their own. */
const ROOT_ONLY = { skip: process.getuid!() !== 0 };

let env: ZenithEnv;
let compute: Compute;

before(async () => {
  env = await ZenithEnv.create({ storage: "lazy" });
  compute = await env.createCompute("main");
  appendFileSync(join(compute.paths.pgdata, "postgresql.conf"), "shared_buffers = '1MB'\n");
  await compute.start();
  await compute.query("CREATE EXTENSION amcheck");
  await compute.query("CREATE TABLE log (writer int, n int, filler text, PRIMARY KEY (writer, n))");
  await compute.query("CREATE TABLE totals (writer int PRIMARY KEY, n int NOT NULL)");
  await compute.query(`INSERT INTO totals SELECT w, 0 FROM generate_series(0, ${WRITERS - 1}) w`);
  await compute.query("INSERT INTO log SELECT -1, n, repeat('x', 200) FROM generate_series(1, 20000) n");
  await compute.stop();
});
after(() => env[Symbol.asyncDispose]());

/** What the writers were told is committed: the last number of each. */
class History {
  readonly acknowledged: number[] = new Array(WRITERS).fill(0);
  readonly attempted: number[] = new Array(WRITERS).fill(0);
  /** How many commits of each were acknowledged since this began. */
  readonly commits: number[] = new Array(WRITERS).fill(0);

  /** Writes until the connection breaks. */
  async write(writer: number): Promise<void> {
    await using connection = await compute.connect();
    const database = await connection.value("SELECT n FROM totals WHERE writer = $1", [writer]);
    this.acknowledged[writer] = this.attempted[writer] = Number(database);
    for (;;) {
      const n = ++this.attempted[writer];
      try {
        await connection.query(
          `WITH counted AS (UPDATE totals SET n = ${n} WHERE writer = ${writer})
           INSERT INTO log VALUES (${writer}, ${n}, repeat('y', 300))`,
        );
      } catch {
        return;
      }
      this.acknowledged[writer] = n;
      this.commits[writer]++;
    }
  }

  async check(): Promise<void> {
    const rows = await compute.query(
      `SELECT writer, t.n AS total, (SELECT count(*) FROM log WHERE log.writer = t.writer) AS rows
       FROM totals t ORDER BY writer`,
    );
    for (const [writer, row] of rows.entries()) {
      const total = Number(row["total"]);
      assert.equal(Number(row["rows"]), total, `writer ${writer} has half a transaction`);
      assert(total >= this.acknowledged[writer], `writer ${writer} has lost ${this.acknowledged[writer]}`);
      assert(total <= this.attempted[writer], `writer ${writer} has ${total}, never written`);
    }
    assert.equal(await compute.value("SELECT count(*) FROM log WHERE writer = -1"), "20000");
    const program = clientProgram("pg_amcheck");
    const run = spawnSync(program, ["--heapallindexed"], {
      env: { ...process.env, ...compute.libpq },
      encoding: "utf8",
    });
    assert.equal(run.status, 0, run.stdout + run.stderr);
  }
}

/** Starts it, lets writers write, has it die, and looks at what is left. */
async function survive(die: (supervisor: ProcessIdentity, postmaster: number) => void | Promise<void>) {
  for (let round = 0; round < ROUNDS; round++) {
    await compute.start();
    assert(isMounted(compute.paths));
    const found = checkPidFile(compute.paths.pidFile);
    assert(found.state === "running");
    const postmaster = postmasterPid(compute.paths.pgdata);
    assert(postmaster !== undefined);
    const history = new History();
    const writing = Array.from({ length: WRITERS }, (_, writer) => history.write(writer));
    await until("everybody has written", () => history.commits.every((n) => n >= COMMITS));
    await die(found.process, postmaster);
    await Promise.all(writing);
    // After an orderly stop it may wait for the next start.
    const isOver = () => !holdsPidFile(compute.paths.pidFile, found.process);
    await until("the supervisor is done", isOver, DEATH_TIMEOUT_MS);
    await until(
      "Postgres has ended",
      () => postmasterPid(compute.paths.pgdata) === undefined,
      DEATH_TIMEOUT_MS,
    );
    await compute.start();
    assert.equal(mounts(), 1);
    await history.check();
    await compute.stop();
    assert.equal(mounts(), 0);
  }
}

/** How many mounts there are at the compute's mount point, on top of each other. */
function mounts(): number {
  const run = spawnSync("findmnt", ["--noheadings", "--output", "TARGET", "--types", "fuse.zenith"], {
    encoding: "utf8",
  });
  return run.stdout.split("\n").filter((line) => line.trim().endsWith(compute.paths.mount)).length;
}

/** Cuts the page server off, has a read wait for it, and kills. */
async function dieWhileReadsWait(who: "supervisor" | "postmaster"): Promise<void> {
  await compute.start();
  const found = checkPidFile(compute.paths.pidFile);
  assert(found.state === "running");
  const postmaster = postmasterPid(compute.paths.pgdata);
  await using connection = await compute.connect();
  await connection.value("SELECT 1");
  await env.pageserver.kill9();
  const waiting = connection.value("SELECT count(filler) FROM log").catch((error: unknown) => error);
  await until(
    "the page server is missed",
    async () => (await env.zenith("pg", "list")).includes("wait for the page server"),
  );
  process.kill(who === "supervisor" ? found.process.pid : postmaster!, "SIGKILL");
  assert(await waiting instanceof Error, "a query was answered without its pages");
  await until("the supervisor has ended", () => !isRunning(found.process), DEATH_TIMEOUT_MS);
  await until(
    "Postgres has ended",
    () => postmasterPid(compute.paths.pgdata) !== postmaster,
    DEATH_TIMEOUT_MS,
  );
  await env.pageserver.start();
  await compute.start();
  assert.equal(await compute.value("SELECT count(*) FROM log WHERE writer = -1"), "20000");
  await compute.stop();
}

describe("a lazy compute under load", () => {
  test("ends when its supervisor is killed", async () => {
    await survive(({ pid }) => {
      process.kill(pid, "SIGKILL");
    });
  });

  test("ends when its postmaster is killed", async () => {
    await survive((_supervisor, postmaster) => {
      process.kill(postmaster, "SIGKILL");
    });
  });

  test("ends when its mount is cut", async () => {
    await survive(() => {
      // It is in use and stays where it is, but the kernel aborts its connection.
      spawnSync("umount", ["-f", compute.paths.mount]);
    });
  });

  test("ends when its overlay can't be written any more", async () => {
    await survive(async () => {
      rmSync(`${compute.paths.overlay}.away`, { recursive: true, force: true });
      renameSync(compute.paths.overlay, `${compute.paths.overlay}.away`);
      writeFileSync(compute.paths.overlay, "");
      await compute.query("CREATE TABLE broken AS SELECT generate_series(1, 100000) n").catch(() => {});
      spawnSync("sync", ["--file-system", compute.paths.mount]);
    });
  });

  test("ends in order when it is stopped, fast or at once", async () => {
    await survive(async () => {
      await compute.stop("fast");
    });
    await survive(async () => {
      await compute.stop("immediate");
    });
  });

  test("ends in order when a container that was started meanwhile has its mount too", ROOT_ONLY, async () => {
    await survive(async () => {
      const container = spawn("unshare", ["--mount", "--propagation", "private", "cat"], {
        stdio: ["pipe", "pipe", "inherit"],
      });
      try {
        container.stdin.write("in its own namespace\n");
        await once(container.stdout, "data");
        await compute.stop();
      } finally {
        container.kill();
      }
    });
  });

  for (const who of ["supervisor", "postmaster"] as const) {
    test(`ends when its ${who} is killed while reads wait for a page server that is away`, async () => {
      for (let round = 0; round < ROUNDS; round++) await dieWhileReadsWait(who);
    });
  }
});
