import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { appendFileSync, chmodSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { parseLsn } from "../../src/common/lsn.ts";
import type { Finding } from "../../src/control/survey/checkup.ts";
import { saveEnvironment } from "../../src/control/environment.ts";
import { runZenith, zenithCommand } from "../harness/cli.ts";
import { freePort } from "../harness/ports.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";
import { testPostgres } from "../harness/postgres_major.ts";

let env: ZenithEnv;
let main: Compute;

before(async () => {
  env = await ZenithEnv.create({ safekeepers: 1 });
  main = await env.startCompute("main");
});
after(() => env[Symbol.asyncDispose]());

/** A PATH with nothing on it but these programs. */
function pathOf(name: string, programs: readonly string[]): string {
  const dir = join(env.dir, name);
  mkdirSync(dir);
  for (const program of programs) {
    const found = spawnSync("which", [program], { encoding: "utf8" }).stdout.trim();
    symlinkSync(found, join(dir, program));
  }
  return dir;
}

describe("zenith psql", () => {
  test("connects to main, or to the branch that is named, and hands its arguments on", async () => {
    assert.equal(await env.zenith("psql", "--", "-At", "-c", "select 1 + 1"), "2\n");
    const port = "select inet_server_port(), current_user, current_database()";
    const expected = `${main.address.port}|zenith_admin|postgres\n`;
    assert.equal(await env.zenith("psql", "main", "--", "-At", "-c", port), expected);
    assert.equal(
      await env.zenith("psql", "main", "--", "-At", "-d", "template1", "-c", "select current_database()"),
      "template1\n",
    );
  });

  test("ends as psql ends", async () => {
    const failed = await env.tryZenith("psql", "--", "-v", "ON_ERROR_STOP=1", "-c", "select 1/0");
    assert.equal(failed.code, 1);
    assert.match(failed.stderr, /division by zero/);
  });

  test("is not led astray by the caller's environment", async () => {
    const printed = await runZenith(["psql", "--", "-At", "-c", "select inet_server_port()"], {
      ZENITH_REPO_DIR: env.repoDir,
      PGHOST: "192.0.2.1",
      PGHOSTADDR: "192.0.2.1",
      PGPORT: "1",
      PGSERVICE: "nowhere",
    });
    assert.equal(printed.stdout, `${main.address.port}\n`, printed.stderr);
  });

  test("says how to connect where there is no psql", async () => {
    const distrib = join(env.dir, "server-only");
    mkdirSync(distrib);
    const { binDir } = testPostgres();
    mkdirSync(join(distrib, "bin"));
    for (const name of ["postgres", "initdb"]) symlinkSync(join(binDir, name), join(distrib, "bin", name));
    const none = await runZenith(["psql"], {
      ZENITH_REPO_DIR: env.repoDir,
      POSTGRES_DISTRIB_DIR: distrib,
      PATH: pathOf("no-psql", ["id", "test"]),
    });
    assert.equal(none.code, 4);
    assert.match(none.stderr, /there is no psql/);
    assert.match(none.stderr, /"zenith uri main"/);
  });

  test("says what to do first when there is nothing to connect to", async () => {
    await env.branch("dev", "main");
    assert.match(
      (await env.tryZenith("psql", "dev")).stderr,
      /has no Postgres\nhint: .*zenith pg start dev/,
    );
    const dev = await env.createCompute("dev");
    const stopped = await env.tryZenith("psql", dev.branch);
    assert.equal(stopped.code, 3);
    assert.match(stopped.stderr, /is stopped\nhint: .*zenith pg start dev/);
  });
});

describe("zenith logs", () => {
  test("shows the ends of all logs, or of one, in lines for a person", async () => {
    const all = await env.zenith("logs");
    for (
      const title of ["page server", "safekeeper 1", "supervisor of branch main", "Postgres of branch main"]
    ) {
      assert.match(all, new RegExp(`^==> ${title}: /.*<==$`, "m"));
    }
    const one = await env.zenith("logs", "pageserver", "-n", "1000");
    assert.match(one, /^\d{4}-\d\d-\d\dT[\d:.]+Z {2}ready {2}host=127\.0\.0\.1 {2}port=\d+$/m);
    assert.doesNotMatch(one, /^\{/m);
    assert.match(await env.zenith("logs", "pageserver", "-n", "1000", "--raw"), /^\{"level":"info"/m);
    const last = (await env.zenith("logs", "safekeeper", "1", "-n", "2")).trimEnd().split("\n");
    assert.equal(last.length, 2);
  });

  test("follows what is added", async () => {
    const [file, ...args] = zenithCommand();
    const follower = spawn(file!, [...args, "logs", "main", "-f", "-n", "0"], {
      env: { ...process.env, ZENITH_REPO_DIR: env.repoDir },
      stdio: ["ignore", "pipe", "inherit"],
    });
    try {
      let printed = "";
      follower.stdout.setEncoding("utf8").on("data", (text: string) => {
        printed += text;
      });
      // Until it follows, what is said is not shown: it is said again.
      await until("a message of Postgres is shown", async () => {
        await main.query("DO $$ BEGIN RAISE LOG 'heard of'; END $$");
        return printed.includes("heard of");
      });
      appendFileSync(main.paths.log, '{"level":"warn","time":"T","name":"compute","msg":"half');
      appendFileSync(main.paths.log, ' a line","n":1}\n');
      await until(
        "a line that came in two pieces is one",
        () => printed.includes("T  WARN: half a line  n=1\n"),
      );
    } finally {
      follower.kill("SIGINT");
      await new Promise((resolve) => follower.on("close", resolve));
    }
  });

  test("says which logs there are", async () => {
    assert.match(
      (await env.tryZenith("logs", "safekeeper", "7")).stderr,
      /there is no safekeeper 7\nhint: .*1/,
    );
    assert.match((await env.tryZenith("logs", "nix")).stderr, /branch nix has no Postgres/);
    assert.equal((await env.tryZenith("logs", "pageserver", "1")).code, 2);
    assert.equal((await env.tryZenith("logs", "-n", "many")).code, 2);
  });
});

describe("zenith doctor", () => {
  async function findings(
    variables: Record<string, string> = {},
  ): Promise<{ code: number | null; of: (check: string) => Finding | undefined }> {
    const run = await runZenith(["doctor", "--json"], { ZENITH_REPO_DIR: env.repoDir, ...variables });
    const found = JSON.parse(run.stdout) as Finding[];
    for (const { verdict, fix } of found) assert.equal(fix === null, verdict === "ok");
    return { code: run.code, of: (check) => found.find((finding) => finding.check === check) };
  }

  test("finds this machine and a running environment well", async () => {
    const { code, of } = await findings();
    assert.equal(code, 0);
    assert.match(
      of("PostgreSQL 15")!.found,
      new RegExp(`^${testPostgres().version.replace(".", "\\.")} in /`),
    );
    assert.equal(of("ports")!.verdict, "ok");
    assert.match(await env.zenith("doctor"), /^ok +PostgreSQL 15: 15\./m);
  });

  test("fails where Zenith could not run, with what to do", async () => {
    const nowhere = await findings({ POSTGRES_DISTRIB_DIR: join(env.dir, "nowhere") });
    assert.equal(nowhere.code, 1);
    assert.match(nowhere.of("PostgreSQL")!.found, /nowhere, does not exist/);
    const distrib = join(env.dir, "thirteen");
    mkdirSync(join(distrib, "bin"), { recursive: true });
    for (const program of ["postgres", "initdb"]) {
      writeFileSync(join(distrib, "bin", program), "#!/bin/sh\necho 'postgres (PostgreSQL) 13.4'\n");
      chmodSync(join(distrib, "bin", program), 0o755);
    }
    const thirteen = await findings({ POSTGRES_DISTRIB_DIR: distrib });
    assert.match(thirteen.of("PostgreSQL")!.found, /is PostgreSQL 13\.4: this Zenith runs PostgreSQL 14, 15/);
  });

  test("only warns of what there are ways around", async () => {
    const { code, of } = await findings({ PATH: pathOf("bare", ["id", "test"]) });
    assert.equal(code, 0);
    assert.equal(of("setpriv")!.verdict, "warn");
    assert.equal(of("lazy computes")!.verdict, "warn");
  });

  test("looks at a machine that has no environment yet, and at its port", async () => {
    const root = join(env.dir, "new");
    const { code, of } = await findings({ ZENITH_REPO_DIR: root });
    assert.equal(code, 0);
    assert.match(of("environment")!.found, /none yet.*zenith init/);
    await using stopped = await ZenithEnv.create({ start: false, safekeepers: 1 });
    const { host } = stopped.pageserver.address;
    const { paths, config } = stopped.environment;
    saveEnvironment({ paths, config: { ...config, pageserver: { listen: `${host}:${main.address.port}` } } });
    const busy = await findings({ ZENITH_REPO_DIR: stopped.repoDir });
    assert.equal(busy.code, 1);
    assert.match(busy.of("ports")!.found, /for the page server, is in use by process \d+ \(/);
  });

  if (process.getuid?.() === 0) {
    test("fails when Postgres has no user to run as, or can't reach its directory", async () => {
      const nobody = await findings({ ZENITH_PG_USER: "elephant" });
      assert.equal(nobody.code, 1);
      assert.match(nobody.of("Postgres's user")!.found, /user elephant does not exist/);
      const closed = join(env.dir, "closed");
      mkdirSync(closed, { mode: 0o700 });
      const { code, of } = await findings({ ZENITH_REPO_DIR: join(closed, ".zenith") });
      assert.equal(code, 1);
      assert.match(of("directory")!.found, /can't reach/);
      assert.match(of("directory")!.fix!, /chmod a\+x/);
    });
  }
});

describe("zenith completion", () => {
  test("gives bash commands, and branches that are there", () => {
    const [file, ...prefix] = zenithCommand();
    const zenith = join(env.dir, "zenith");
    writeFileSync(zenith, `#!/bin/sh\nexec ${[file, ...prefix].join(" ")} "$@"\n`);
    chmodSync(zenith, 0o755);
    const complete = (...words: string[]) => {
      const script = `source <(zenith completion bash); COMP_WORDS=(zenith "$@"); COMP_CWORD=$#; _zenith; ` +
        `printf '%s\\n' "\${COMPREPLY[@]}"`;
      const run = spawnSync("bash", ["-c", script, "bash", ...words], {
        encoding: "utf8",
        env: { ...process.env, ZENITH_REPO_DIR: env.repoDir, PATH: `${env.dir}:${process.env["PATH"]}` },
      });
      assert.equal(run.status, 0, run.stderr);
      return run.stdout.trim().split("\n");
    };
    assert.deepEqual(complete("sta"), ["standby", "start", "status"]);
    assert.deepEqual(complete("pg", "start", ""), ["dev", "main"]);
    assert.deepEqual(complete("pg", "stop", "-m", ""), ["fast", "immediate"]);
    assert.deepEqual(complete("dump", "wal", ""), [""], "files are bash's own to complete");
  });

  test("has bash and those shells that are installed take its scripts", async () => {
    for (const shell of ["bash", "zsh", "fish"]) {
      const script = await env.zenith("completion", shell);
      const run = spawnSync(shell, ["-n"], { input: script, encoding: "utf8" });
      if (shell !== "bash" && run.error !== undefined) continue;
      assert.equal(run.status, 0, `${shell}: ${run.stderr}`);
    }
    assert.equal((await env.tryZenith("completion", "csh")).code, 2);
  });
});

describe("lists as JSON", () => {
  async function json(...args: string[]): Promise<Record<string, unknown>[]> {
    return JSON.parse(await env.zenith(...args, "--json")) as Record<string, unknown>[];
  }

  test("have one object per item, LSNs as text and null for what is not known", async () => {
    const branches = await json("branch", "list");
    assert.deepEqual(branches.map(({ branch }) => branch), ["dev", "main"]);
    assert.deepEqual(await json("branch"), branches);
    assert.match(String(branches[0]["ancestor_lsn"]), /^0\/[0-9A-F]+$/);
    assert.equal(branches[1]["ancestor_lsn"], null);
    assert.deepEqual(await json("tenant", "list"), [
      { tenant_id: env.defaultTenant, default: true, pg_version: env.major },
    ]);
    const computes = await json("pg", "list");
    assert.deepEqual(computes.map(({ branch, status }) => [branch, status]), [["dev", "stopped"], [
      "main",
      "running",
    ]]);
    const [safekeeper] = await json("safekeeper", "list");
    assert.equal(safekeeper!["id"], 1);
    assert.match(String(safekeeper!["commit_lsn"]), /^0\/[0-9A-F]+$/);
    const config: unknown = JSON.parse(await env.zenith("tenant", "config", env.defaultTenant, "--json"));
    assert.deepEqual(Object.keys(config as object), ["tenant_id", "gc_horizon_bytes", "pitr_interval"]);
  });

  test("so have commands that make or show one thing, with nothing else on standard output", async () => {
    const one = async (...args: string[]) => JSON.parse(await env.zenith(...args, "--json"));
    const [, main] = await json("branch", "list");
    const end = await one("lsn-at", "main", "now");
    assert.equal(end.timeline_id, main["timeline_id"]);
    assert.ok(parseLsn(end.lsn) >= parseLsn(String(main["latest_valid_lsn"])));
    await env.branch("one", "main");
    const renamed = await one("branch", "rename", "one", "other");
    assert.equal(renamed.branch, "other");
    assert.equal(renamed.ancestor_id, main["timeline_id"]);
    const made = await one("pg", "create", "other", "--port", String(await freePort()));
    assert.deepEqual([made.branch, made.read_only_lsn], ["other", null]);
    const { DATABASE_URL, PGPASSWORD, ...rest } = await one("uri", "other");
    assert.equal(DATABASE_URL, made.uri);
    assert.match(made.uri, new RegExp(`:${PGPASSWORD}@`));
    const PGPORT = made.address.split(":")[1];
    assert.deepEqual(rest, { PGHOST: "127.0.0.1", PGPORT, PGUSER: "zenith_admin", PGDATABASE: "postgres" });
    await env.zenith("branch", "delete", "other");
  });
});
