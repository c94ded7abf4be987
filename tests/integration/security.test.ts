/** What somebody who reaches the ports, or has a tenant's token, must not get: each attack here once worked. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { readTokenFile } from "../../src/auth/private_file.ts";
import { formatHostPort } from "../../src/common/host_port.ts";
import { parseBranchName, type TenantId } from "../../src/common/id.ts";
import { whyNotLazy } from "../../src/compute/lazy/fuse/mount.ts";
import { allComputePlaces } from "../../src/control/compute_places.ts";
import { PgClient } from "../../src/pgwire/client.ts";
import { timelineOptions } from "../../src/protocol/wal_connection.ts";
import { runZenith } from "../harness/cli.ts";
import { Connection } from "../harness/connection.ts";
import { childOutput } from "../harness/child_output.ts";
import { clientProgram } from "../harness/postgres_major.ts";
import { freePort } from "../harness/ports.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let main: Compute;
let tenant: TenantId;
let timeline: string;

before(async () => {
  env = await ZenithEnv.create({ safekeepers: 1 });
  tenant = env.defaultTenant;
  main = await env.startCompute("main");
  await main.query("CREATE TABLE secrets AS SELECT 'the secret'::text AS word");
  await using client = env.pageserver.client();
  timeline = (await client.branch(tenant, parseBranchName("main"))).timeline_id;
});
after(() => env[Symbol.asyncDispose]());

/** Makes a token as a person does. */
async function token(...args: string[]): Promise<{ id: string; text: string }> {
  const made = JSON.parse(await env.zenith("token", "create", "a test", ...args, "--json"));
  return { id: made.id, text: made.token };
}

function pageServer(password?: string): Promise<PgClient> {
  const { host, port } = env.pageserver.address;
  return PgClient.connect({ host, port, user: "x", ...(password === undefined ? {} : { password }) });
}

async function tries(command: string, password?: string): Promise<string> {
  try {
    await using client = await pageServer(password);
    await client.query(command);
    return "let in";
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

describe("who has no token", () => {
  test("reads, deletes, forgets and fences nothing, and makes no server connect", async () => {
    for (
      const command of [
        `basebackup ${tenant} ${timeline}`,
        `pagestream ${tenant} ${timeline}`,
        `tenant_delete ${tenant}`,
        `tenant_config ${tenant} pitr_interval=1s gc_horizon_bytes=0`,
        `do_gc ${tenant} ${timeline} 0`,
        `callmemaybe ${tenant} ${timeline} host=169.254.169.254 port=80`,
        `timeline_safekeepers ${tenant} ${timeline} 10.9.9.9:5454`,
        "status",
      ]
    ) assert.match(await tries(command), /asks for a password, none was given/, command);
    const { host, port } = env.safekeepers[0]!.address;
    await assert.rejects(PgClient.connect({ host, port, user: "x" }), /asks for a password/);
    assert.equal(await main.value("SELECT word FROM secrets"), "the secret");
    await main.query("INSERT INTO secrets VALUES ('still committing')");
  });

  test("gets no further from inside a compute, where a superuser has dblink", async () => {
    const { host, port } = env.pageserver.address;
    await main.query("CREATE EXTENSION dblink");
    const login = `host=${host} port=${port} user=zenith_admin dbname=zenith`;
    const why = (pattern: RegExp) => (error: { detail?: string }) => pattern.test(error.detail ?? "");
    await assert.rejects(main.query(`SELECT dblink_connect('${login}')`), why(/no password supplied/));
    await assert.rejects(
      main.query(`SELECT dblink_connect('${login} password=postgres')`),
      why(/this is not a token/),
    );
  });

  test("finds no token in the files that a superuser of a compute may read", async () => {
    if (process.getuid!() !== 0) return; // Postgres runs as ourselves then, as docs/security.md says.
    for (const file of [main.paths.token, env.paths.auth.adminToken]) {
      assert.ok(readTokenFile(file) !== undefined);
      await assert.rejects(main.query(`SELECT pg_read_file('${file}')`), /Permission denied/);
    }
  });
});

describe("a compute's token", () => {
  test("is for its own timeline: others' stay out of reach, whoever owns them", async () => {
    const own = readTokenFile(main.paths.token)!;
    const other = await env.createTenant();
    await env.branch("side", "main");
    await using client = env.pageserver.client();
    const side = (await client.branch(tenant, parseBranchName("side"))).timeline_id;
    const othersMain = (await client.branch(other, parseBranchName("main"))).timeline_id;
    assert.equal(await tries(`timeline_status ${tenant} ${timeline}`, own), "let in");
    assert.match(await tries(`timeline_status ${tenant} ${side}`, own), /is for timeline/);
    assert.match(await tries(`basebackup ${tenant} ${side}`, own), /is for timeline/);
    assert.match(await tries(`basebackup ${other} ${othersMain}`, own), /is for tenant/);
    assert.match(await tries(`basebackup ${other} ${timeline}`, own), /is for tenant/);
    assert.match(await tries(`tenant_delete ${tenant}`, own), /is not for tenant_delete/);
    assert.match(await tries("status", own), /is not for status/);
  });

  test("makes the page server connect to its own compute and its own safekeepers alone", async () => {
    const own = readTokenFile(main.paths.token)!;
    for (const source of ["host=169.254.169.254 port=80", `host=127.0.0.1 port=22`, "host=10.0.0.1"]) {
      const answer = await tries(`callmemaybe ${tenant} ${timeline} ${source}`, own);
      assert.match(answer, /may not name the address/, source);
    }
    const answer = await tries(`timeline_safekeepers ${tenant} ${timeline} 10.9.9.9:5454`, own);
    assert.match(answer, /may not name the address 10.9.9.9:5454/);
    await using wire = await env.pageserver.connect();
    const { source } = await wire.json(`receiver_status ${tenant} ${timeline}`) as { source: string };
    assert.match(source, new RegExp(`port=${env.safekeepers[0]!.address.port} `));
  });
});

describe("a token for reading", () => {
  test("archives a branch by pg_receivewal, with the token in .pgpass, and makes nobody remove WAL", async () => {
    const directory = mkdtempSync(join(tmpdir(), "zenith-archive-"));
    try {
      const file = join(directory, "main.token");
      await env.zenith("token", "create", "archive", "--scope", "read", "--branch", "main", "--out", file);
      assert.equal(statSync(file).mode & 0o777, 0o600);
      const text = readTokenFile(file)!;
      const { host, port } = env.safekeepers[0]!.address;
      const passfile = join(directory, "pgpass");
      writeFileSync(passfile, `${host}:${port}:*:archiver:${text}\n`);
      chmodSync(passfile, 0o600);
      // Of the segment in which the branch begins, the safekeepers have a part.
      await main.query("SELECT pg_switch_wal()");
      await main.query("INSERT INTO secrets SELECT md5(n::text) FROM generate_series(1, 10000) n");
      const end = await main.value("SELECT pg_current_wal_flush_lsn()");
      const archive = join(directory, "wal");
      mkdirSync(archive);
      const connection = `host=${host} port=${port} user=archiver options='${
        timelineOptions(tenant, timeline)
      }'`;
      const args = ["-D", archive, "-d", connection, "--no-loop", "-E", String(end)];
      const receiver = spawn(clientProgram("pg_receivewal"), args, {
        env: { ...process.env, PGPASSFILE: passfile },
        stdio: ["ignore", "pipe", "pipe"],
      });
      const output = await childOutput(receiver);
      assert.equal(output.code, 0, output.stderr);
      assert.ok(readdirSync(archive).length > 0);

      // It may call itself a page server: what it says is safe elsewhere is not believed.
      const before = (await env.safekeepers[0]!.status()).find(({ timeline_id }) =>
        timeline_id === timeline
      )!;
      await using client = await PgClient.connect({
        host,
        port,
        user: "x",
        password: text,
        replication: true,
        applicationName: "pageserver",
        options: timelineOptions(tenant, timeline),
      });
      const copy = await client.copyBoth(`START_REPLICATION PHYSICAL ${end}`);
      const status = new Uint8Array(34);
      status[0] = "r".charCodeAt(0);
      status.fill(0x7f, 1, 25);
      copy.send(status);
      copy.end();
      await copy.run({ onData() {} }).catch(() => {});
      const now = (await env.safekeepers[0]!.status()).find(({ timeline_id }) => timeline_id === timeline)!;
      assert.ok(now.remote_consistent_lsn <= now.commit_lsn, String(now.remote_consistent_lsn));
      assert.ok(now.remote_consistent_lsn >= before.remote_consistent_lsn);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});

describe("zenith token", () => {
  test("lists, revokes: connections of a revoked token end by themselves", async () => {
    const { id, text } = await token("--scope", "tenant", "--expires", "1h");
    const client = await pageServer(text);
    await client.query(`branch_list ${tenant}`);
    assert.match(
      await env.zenith("token", "list"),
      new RegExp(`^${id} +a test +tenant +${tenant} .*valid +in 1h$`, "m"),
    );
    assert.match(await env.zenith("token", "revoke", id.slice(0, 8)), new RegExp(`token ${id} revoked`));
    await until("its connection has ended", () => client.closed);
    assert.match(await tries(`branch_list ${tenant}`, text), /was revoked/);
    assert.match(await env.zenith("token", "list"), new RegExp(`^${id} .* revoked `, "m"));
  });

  test("rotates: everything goes on, and what the old key signed is refused when it is retired", async () => {
    const { text } = await token("--scope", "tenant");
    await env.zenith("token", "rotate", "--retire");
    assert.match(await tries(`branch_list ${tenant}`, text), /is not trusted here/);
    await main.query("INSERT INTO secrets VALUES ('after the rotation')");
    await env.untilArrived("main");
    await env.zenith("restart");
    await main.query("INSERT INTO secrets VALUES ('after a restart')");
    await env.untilArrived("main");
  });

  test("says what is wrong with what it is asked for", async () => {
    const wrong = async (...args: string[]) => (await env.tryZenith("token", ...args)).stderr;
    assert.match(await wrong("create", "x"), /--scope is missing: expected admin, tenant/);
    assert.match(await wrong("create", "x", "--scope", "root"), /--scope is "root"/);
    assert.match(await wrong("create", "x", "--scope", "compute"), /names no timeline/);
    assert.match(await wrong("create", "x", "--scope", "read", "--address", "10.0.0.0"), /is no address/);
    assert.match(await wrong("create", "x", "--scope", "read", "--expires", "soon"), /soon/);
    assert.match(await wrong("revoke", "nothing"), /no token with the id nothing/);
  });
});

describe("the audit log", () => {
  /** The entries that a server has made, of one command. */
  const entries = (file: string, command: string): Record<string, unknown>[] =>
    readFileSync(file, "utf8").trimEnd().split("\n").map((line) => JSON.parse(line))
      .filter((entry) => entry.command === command);

  test("says who changed what, and who was not let", async () => {
    const { auditLog } = env.paths.pageserver;
    assert.equal(statSync(auditLog).mode & 0o777, 0o600);
    const { id, text } = await token("--scope", "tenant");
    assert.equal(await tries(`branch_create ${tenant} audited main`, text), "let in");
    const made = entries(auditLog, "branch_create").at(-1)!;
    assert.match(String(made["time"]), /^20.*Z$/);
    assert.match(String(made["client"]), /^127\.0\.0\.1:\d+$/);
    const { time: _time, client: _client, ...rest } = made;
    assert.deepEqual(rest, {
      token: id,
      for: "a test",
      scope: "tenant",
      command: "branch_create",
      tenant,
      timelines: [],
      args: { name: "audited", start: "main" },
      outcome: "done",
      error: null,
    });
    assert.match(await tries(`tenant_delete ${tenant}`, text), /is not for tenant_delete/);
    const refused = entries(auditLog, "tenant_delete").at(-1)!;
    assert.deepEqual([refused["token"], refused["outcome"]], [id, "refused"]);
    assert.match(await tries(`branch_delete ${tenant} nobody`, text), /nobody/);
    assert.equal(entries(auditLog, "branch_delete").at(-1)!["outcome"], "failed");
    await env.zenith("pg", "config", "audited", "primary_conninfo=host=far password=s3cretpassword");
    const settings = entries(auditLog, "timeline_set_settings").at(-1)!;
    assert.deepEqual([settings["scope"], settings["args"]], ["admin", {}]);
    assert.deepEqual(entries(auditLog, "basebackup"), []);
    await env.zenith("branch", "delete", "audited");
    const [deleted] = entries(env.safekeepers[0]!.paths.auditLog, "timeline_delete");
    assert.deepEqual([deleted!["scope"], deleted!["outcome"]], ["admin", "done"]);
  });
});

describe("secrets", () => {
  test("are in no log, no status, no error and no process's arguments", async () => {
    await env.tryZenith("branch", "nowhere", "nobody");
    // A replica's Postgres has a token of its own, for the safekeepers.
    if (whyNotLazy() === undefined) await env.zenith("pg", "start", "main", "--replica");
    const { auth } = env.paths;
    const files = [
      ...readdirSync(auth.tokens).map((name) => join(auth.tokens, name)),
      ...readdirSync(auth.signing).map((name) => join(auth.signing, name)),
      ...allComputePlaces(env.environment).flatMap(({ paths }) => [paths.token, paths.walToken]),
    ];
    const secrets = files.filter((file) => existsSync(file)).flatMap((file) =>
      readFileSync(file, "utf8").split("\n").filter((line) => line.length > 40)
    );
    // A token's signature is the secret; the rest of it says what it is for.
    const passwords = readFileSync(env.paths.pgpass(tenant), "utf8").trim().split("\n")
      // A remark has the verifier, which Postgres keeps too.
      .filter((line) => !line.startsWith("#"))
      .map((line) => line.split(":").at(-1)!);
    assert.ok(passwords.length >= 2 && passwords.every((password) => password.length > 10));
    const words = [...secrets.map((secret) => secret.split(".").at(-1)!), ...passwords];
    assert.ok(words.length >= 5, String(words.length));
    const places = new Map<string, string>();
    for (const name of readdirSync(env.repoDir, { recursive: true, encoding: "utf8" })) {
      const path = join(env.repoDir, name);
      if (/\.log$|\.conf$|\bpgdata\/|conditions$|last_start$|\baudit/.test(name) && statSync(path).isFile()) {
        places.set(name, readFileSync(path, "latin1"));
      }
    }
    assert.ok(["pageserver.log", "safekeepers/1/safekeeper.log"].every((name) => places.has(name)));
    for (
      const args of [["status"], ["status", "--json"], ["doctor"], ["pg", "list"], [
        "token",
        "list",
        "--json",
      ]]
    ) {
      const { stdout, stderr } = await env.tryZenith(...args);
      places.set(`zenith ${args.join(" ")}`, stdout + stderr);
    }
    await using wire = await env.pageserver.connect();
    places.set("the page server's status", JSON.stringify(await wire.json("status")));
    let processes = 0;
    for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
      try {
        const args = readFileSync(`/proc/${pid}/cmdline`, "utf8");
        places.set(`process ${pid}`, args);
        if (args.includes(env.repoDir)) processes++;
      } catch {
        // It has ended meanwhile.
      }
    }
    assert.ok(processes >= 3, String(processes));
    for (const [place, text] of places) {
      for (const word of words) assert.ok(!text.includes(word), `${place} has a secret`);
    }
    if (whyNotLazy() === undefined) await env.zenith("pg", "stop", "main@replica1");
  });
});

describe("a server", () => {
  test("that would let everybody in listens for this machine alone, and says so", async () => {
    const directory = mkdtempSync(join(tmpdir(), "zenith-open-"));
    try {
      const run = (...args: string[]) => runZenith(args, {});
      for (const [role, ...more] of [["pageserver"], ["safekeeper", "--id", "1"]]) {
        const where = [role!, "-D", directory, ...more];
        const keyless = await run(...where, "-l", "127.0.0.1:0");
        assert.match(
          keyless.stderr,
          /there are no keys in .*: nobody could be told apart\nhint: .*--insecure/,
        );
        const everywhere = await run(...where, "-l", `0.0.0.0:${await freePort()}`, "--insecure");
        assert.match(everywhere.stderr, /--insecure lets everybody do everything/);
      }
      await run(
        "safekeeper",
        "-D",
        directory,
        "-l",
        `127.0.0.1:${await freePort()}`,
        "--insecure",
        "--daemonize",
      );
      assert.match(readFileSync(join(directory, "safekeeper.log"), "utf8"), /whoever reaches this port may/);
    } finally {
      const pid = Number(readFileSync(join(directory, "safekeeper.pid"), "utf8").split("\n")[0]);
      process.kill(pid, "SIGKILL");
      rmSync(directory, { recursive: true, force: true });
    }
  });
});

describe("an environment of an earlier version", () => {
  test("gets keys at a start when nothing of it runs, and says until then that it is open", async () => {
    await using old = await ZenithEnv.create({ safekeepers: 1, start: false });
    rmSync(old.paths.auth.dir, { recursive: true });
    const { host, port } = old.pageserver.address;
    const where = ["-D", old.repoDir, "-l", formatHostPort({ host, port })];
    await old.zenith("pageserver", ...where, "--insecure", "--daemonize");
    const { stdout } = await old.tryZenith("status");
    assert.match(stdout, /the servers ask nobody who he is.*\nhint: "zenith stop", then "zenith start"/);
    await old.zenith("start");
    assert.ok(!existsSync(old.paths.auth.dir), "a server that runs would not know the keys");
    await using wire = await Connection.open(old.pageserver.address, { database: "zenith" }, "status");
    await wire.json("tenant_list");
    await old.zenith("stop");
    await old.zenith("start");
    assert.ok(existsSync(old.paths.auth.adminToken));
    await assert.rejects(PgClient.connect({ host, port }), /asks for a password/);
    assert.match((await old.tryZenith("status")).stdout, /all is well/);
    const pg = await old.startCompute("main");
    await pg.query("CREATE TABLE t AS SELECT 1");
    await old.untilArrived("main");
  });
});
