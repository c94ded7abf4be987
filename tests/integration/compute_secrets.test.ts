/** The passwords of a compute are where they belong, and in no log, no report, no error and no command line. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { rolePasswords } from "../../src/compute/postgres/role_passwords.ts";
import { addSettings } from "../harness/branching.ts";
import { zenithCommand } from "../harness/cli.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

// Without safekeepers, the page server connects to Postgres with the password.
for (const safekeepers of [0, 1]) {
  describe(`the passwords of a compute with ${safekeepers} safekeepers`, () => {
    let env: ZenithEnv;
    let main: Compute;

    before(async () => {
      env = await ZenithEnv.create({ safekeepers });
      main = await env.createCompute("main");
      addSettings(main, "log_statement = 'all'", "log_connections = on", "log_min_messages = debug1");
      await main.start();
      await main.query("CREATE TABLE t (n int)");
    });
    after(() => env?.[Symbol.asyncDispose]());

    /** Passwords and what they are verified by. */
    function secrets(): string[] {
      const found = [...rolePasswords(main.paths.pgpass).values()]
        .flatMap(({ password, verifier }) => [password, verifier]);
      assert.equal(found.length, 4);
      return found;
    }

    function assertClean(where: string, text: string): void {
      for (const secret of secrets()) assert.ok(!text.includes(secret), `${where} shows ${secret}`);
    }

    test("are in no file of the environment but pgpass and the branch's data", async () => {
      // The supervisor connects again, sets what has been changed, and fails to.
      await main.query("ALTER ROLE zenith_owner PASSWORD NULL");
      await main.restart();
      await main.query("SELECT pg_terminate_backend(pid) FROM pg_stat_replication");
      await main.query("INSERT INTO t VALUES (1)");
      await assert.rejects(main.connect({ password: "wrong" }));
      const logs = readdirSync(env.repoDir, { recursive: true, withFileTypes: true })
        .filter((entry) =>
          entry.isFile() &&
          !/\/(?:pgdata|overlay|mount|tenants\/\w+\/timelines)(?:\/|$)/.test(entry.parentPath)
        )
        .map((entry) => join(entry.parentPath, entry.name))
        .filter((path) => !/\/(?:[0-9A-F]{24}(?:\.partial)?|pgpass)$/.test(path));
      assert.ok(logs.includes(main.paths.postgresLog) && logs.includes(main.paths.log));
      for (const path of logs) assertClean(path, readFileSync(path, "latin1"));
      assert.match(main.postgresLog(), /INSERT INTO t/, "Postgres logs every statement");
      assert.equal(statSync(main.paths.pgpass).mode & 0o777, 0o600);
    });

    test("are in no report, and in no error", async () => {
      const { branch } = main;
      const commands = [
        ["status"],
        ["status", "--json"],
        ["pg", "list", "--json"],
        ["pg", "config", branch],
        ["branch", "list", "--json"],
        ["doctor"],
        ["logs", "-n", "10000"],
        ["logs", branch, "-n", "10000", "--raw"],
        ["sql", branch, "-d", "none", "-c", "SELECT 1"],
        ["sql", branch, "-c", "SELECT 1/0"],
        ["psql", branch, "--", "-d", "none"],
        ["dump", branch, "--db", "none"],
        ["pg", "start", branch],
        ["pg", "create", branch],
      ];
      for (const command of commands) {
        const { stdout, stderr } = await env.tryZenith(...command);
        assertClean(command.join(" "), stdout + stderr);
      }
      assertClean("a setting", JSON.stringify(await main.query("SELECT * FROM pg_settings")));
    });

    test("are on no command line", async () => {
      const [file, ...args] = [...zenithCommand(), "psql", "main", "--", "-c", "SELECT pg_sleep(600)"];
      const child = spawn(file!, args, {
        env: { ...process.env, ZENITH_REPO_DIR: env.repoDir },
        stdio: "ignore",
      });
      const ended = new Promise((resolve) => child.on("close", resolve));
      const sleeping = "FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'";
      await until("psql runs", async () => await main.value(`SELECT count(*)::int ${sleeping}`) === 1);
      const lines = readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map((pid) => {
        try {
          return readFileSync(`/proc/${pid}/cmdline`, "latin1");
        } catch {
          return "";
        }
      });
      await main.query(`SELECT pg_terminate_backend(pid) ${sleeping}`);
      await ended;
      assert.ok(lines.some((line) => line.includes("pg_sleep(600)")), "psql was seen");
      assertClean("a command line", lines.join("\n"));
    });
  });
}
