/** Commits that wait are seen, and a stop does not lose what is not durable yet. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { STALL_MS } from "../../src/compute/commit_watch.ts";
import { checkPidFile } from "../../src/process/pid_file.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

const COMMITS = 50;

for (const safekeepers of [1, 0]) {
  describe(`with ${safekeepers} safekeepers`, () => {
    let env: ZenithEnv;
    let pg: Compute;
    let rows = 0;

    before(async () => {
      env = await ZenithEnv.create({ safekeepers });
      pg = await env.startCompute();
      await pg.query("CREATE TABLE t (n int)");
    });
    after(() => env[Symbol.asyncDispose]());

    const keeper = () => safekeepers > 0 ? env.safekeepers[0] : env.pageserver;
    const who = safekeepers > 0 ? "safekeeper" : "page server";

    async function commitAsynchronously(): Promise<void> {
      await using session = await pg.connect();
      await session.query("SET synchronous_commit = off");
      for (let n = 0; n < COMMITS; n++) await session.query(`INSERT INTO t VALUES (${n})`);
    }

    test("commits that wait are in pg list, status and the log, with the reason, until they go on", async () => {
      process.kill(keeper().pid, "SIGSTOP");
      const committed = pg.query("INSERT INTO t VALUES (-1)");
      rows++;
      try {
        const says = new RegExp(`commits wait with \\d+ bytes of WAL since \\S+: .*${who}.*answer`);
        await until("pg list says so", async () => says.test((await env.tryZenith("pg", "list")).stdout));
        assert.match(pg.log(), says);
        if (safekeepers > 0) {
          const { code, stdout } = await env.tryZenith("status");
          assert.match(
            stdout,
            /problem: the Postgres of branch main: commits wait with \d+ bytes of WAL since .*safekeeper/,
          );
          assert.equal(code, 3);
        }
      } finally {
        process.kill(keeper().pid, "SIGCONT");
      }
      await committed;
      await until("all is well", async () => (await env.tryZenith("status")).stdout.includes("all is well"));
      assert.match(pg.log(), /commits go on/);
    });

    const ofSafekeepers = { skip: safekeepers === 0 };
    test(
      "a session that is idle amid a record lets nobody think that commits wait",
      ofSafekeepers,
      async () => {
        await using session = await pg.connect();
        await session.query("BEGIN");
        await session.query("CREATE TABLE big AS SELECT repeat('x', 900) AS x FROM generate_series(1, 5000)");
        await new Promise((resolve) => setTimeout(resolve, STALL_MS + 1_000));
        assert.doesNotMatch(await env.zenith("pg", "list"), /commits wait/);
        await session.query("ROLLBACK");
      },
    );

    test("a stop waits until asynchronous commits are durable, and says for what", async () => {
      await keeper().kill9();
      await commitAsynchronously();
      rows += COMMITS;
      const stopping = env.tryZenith("pg", "stop", "main");
      await until(
        "it says what it waits for",
        async () =>
          /running \(.*stopping: waits until .* have the last \d+ bytes of WAL: .*/.test(
            (await env.tryZenith("pg", "list")).stdout,
          ),
      );
      await keeper().start();
      const { code, stderr } = await stopping;
      assert.equal(code, 0, stderr);
      assert.match(stderr, new RegExp(`stopping: waits until .*${who}.* have the last`));
      await pg.start();
      assert.equal(await pg.value("SELECT count(*)::int FROM t"), rows);
    });

    test("only an immediate stop gives them up, also when one that waits is under way", async () => {
      await keeper().kill9();
      await commitAsynchronously();
      const stopping = env.tryZenith("pg", "stop", "main");
      await until(
        "it waits",
        async () => (await env.tryZenith("pg", "list")).stdout.includes("stopping: waits"),
      );
      await pg.stop("immediate");
      assert.equal((await stopping).code, 0);
      assert.equal(checkPidFile(pg.paths.pidFile).state, "absent");
      await keeper().start();
      await pg.start();
      assert.equal(await pg.value("SELECT count(*)::int FROM t"), rows);
    });
  });
}
