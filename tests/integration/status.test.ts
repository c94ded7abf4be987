import assert from "node:assert/strict";
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { checkPidFile } from "../../src/process/pid_file.ts";
import { parseLsn } from "../../src/common/lsn.ts";
import type { Survey } from "../../src/control/survey/survey.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let main: Compute;

before(async () => {
  // It is asked things while the page server is down: it must not need a page then.
  env = await ZenithEnv.create({ safekeepers: 3, storage: "eager" });
  main = await env.startCompute("main");
  await main.query("CREATE TABLE t (n int)");
});
after(() => env[Symbol.asyncDispose]());

async function survey(): Promise<{ code: number | null; survey: Survey; text: string }> {
  const json = await env.tryZenith("status", "--json");
  const plain = await env.tryZenith("status");
  return { code: json.code, survey: JSON.parse(json.stdout) as Survey, text: plain.stdout };
}

/** Who was away is called again within a second or so. */
async function untilWell(): Promise<void> {
  await until("all is well", async () => (await env.tryZenith("status")).code === 0);
}

describe("zenith status", () => {
  test("says where everything is, how far it is, and that all is well", async () => {
    await env.branch("dev", "main");
    await untilWell();
    const { survey: found, text } = await survey();
    assert.deepEqual(found.problems, []);
    assert.match(text, /^all is well$/m);
    assert.equal(found.directory, env.repoDir);
    assert.ok(found.disk_free_bytes > 0 && found.disk_free_bytes <= found.disk_total_bytes);
    assert.equal(found.page_server.status, "running");
    assert.equal(found.page_server.data, env.repoDir);
    assert.equal(found.page_server.log, env.paths.pageserver.log);
    assert.deepEqual(
      found.safekeepers.map(({ id, status }) => [id, status]),
      [1, 2, 3].map((id) => [id, "running"]),
    );
    const [compute] = found.computes;
    assert.equal(compute!.status, "running");
    assert.equal(compute!.data, main.paths.dir);
    assert.equal(compute!.address, `127.0.0.1:${main.address.port}`);
    const [dev, onMain] = found.branches;
    assert.deepEqual([dev!.branch, onMain!.branch], ["dev", "main"]);
    assert.ok(onMain!.logical_size_bytes! > 1 << 20 && onMain!.physical_size_bytes! > 1 << 20);
    assert.ok(parseLsn(onMain!.commit_lsn!) > 0);
    assert.equal(dev!.commit_lsn, null, "nobody has written there");
    assert.match(text, /^dev +- +- /m);
    assert.match(text, new RegExp(`^main +running +127\\.0\\.0\\.1:${main.address.port} `, "m"));
  });

  test("shows what a safekeeper and the page server lack", async () => {
    const [first, , third] = env.safekeepers;
    await env.pageserver.stop();
    await main.query("INSERT INTO t SELECT generate_series(1, 10000)");
    await env.pageserver.start();
    await until("the page server has caught up", async () => {
      const { survey: found } = await survey();
      return found.branches.find(({ branch }) => branch === "main")?.page_server_lag_bytes === 0;
    });
    const stopped = third!.pid;
    process.kill(stopped, "SIGSTOP");
    try {
      const { code, survey: found, text } = await survey();
      assert.equal(code, 3);
      assert.deepEqual(found.safekeepers.map(({ status }) => status), ["running", "running", "silent"]);
      assert.match(text, /problem: safekeeper 3 runs but does not answer/);
      assert.match(text, /hint: .*zenith logs safekeeper 3/);
      const lags = found.branches.find(({ branch }) => branch === "main")!.safekeepers;
      assert.deepEqual(lags.map(({ lag_bytes }) => lag_bytes === null), [false, false, true]);
    } finally {
      process.kill(stopped, "SIGCONT");
    }
    await first!.kill9();
    const { code, survey: found, text } = await survey();
    assert.equal(code, 3);
    assert.equal(found.safekeepers[0].status, "crashed");
    assert.match(text, /problem: safekeeper 1 was killed.*\nhint: "zenith start" starts it/);
    assert.match(await env.zenith("start"), /^safekeeper 1 started/m);
    await untilWell();
  });

  test("tells a page server that was killed from one that was stopped, and from another's", async () => {
    await env.pageserver.kill9();
    const killed = await survey();
    assert.equal(killed.code, 3);
    assert.equal(killed.survey.page_server.status, "crashed");
    assert.match(killed.text, /problem: the page server was killed/);
    // What it would have said is not known, what runs is.
    assert.match(killed.text, /^main +running .* \? /m);
    await env.pageserver.start();
    await env.pageserver.stop();
    const stopped = await survey();
    assert.equal(stopped.survey.page_server.status, "stopped");
    assert.match(stopped.text, /problem: the page server does not run\nhint: "zenith start" starts it/);

    await using other = await ZenithEnv.create({ start: false, safekeepers: 0 });
    const { host, port } = env.pageserver.address;
    await other.zenith("pageserver", "-D", other.repoDir, "-l", `${host}:${port}`, "--daemonize");
    const foreign = await survey();
    assert.match(foreign.text, /problem: another page server answers on .*: .* is not trusted here/);
    assert.equal(foreign.survey.page_server.status, "stopped");
    const refused = await env.tryZenith("start");
    assert.equal(refused.code, 5);
    assert.match(
      refused.stderr,
      new RegExp(`${port} is in use by process \\d+ \\(.* pageserver -D .*\\)\nhint: .*pageserver.listen`),
    );
    await other.zenith("stop");
    await env.pageserver.start();
    await untilWell();
  });

  test("says of a Postgres that was killed how to have it again", async () => {
    const supervisor = checkPidFile(main.paths.pidFile);
    assert.ok(supervisor.state === "running");
    process.kill(supervisor.process.pid, "SIGKILL");
    await until("it is dead", () => checkPidFile(main.paths.pidFile).state === "stale");
    const killed = await survey();
    assert.equal(killed.code, 3);
    assert.match(killed.text, /^main +crashed /m);
    assert.match(
      killed.text,
      /problem: the Postgres of branch main was killed.*\nhint: "zenith pg start main"/,
    );
    await main.start();
    await main.kill9();
    const broken = await survey();
    assert.match(
      broken.text,
      /problem: the Postgres of branch main broke down: Postgres was ended by SIGKILL/,
    );
    await main.start();
    await untilWell();
  });

  test("lists a Postgres whose configuration is broken, and stop stops it all the same", async () => {
    const conf = main.paths.config;
    const content = readFileSync(conf, "utf8");
    appendFileSync(conf, "port = nonsense\n");
    const { survey: found, text } = await survey();
    assert.equal(found.computes[0].status, "running");
    assert.equal(found.computes[0].address, null);
    assert.match(text, /problem: .*compute\.conf: port is "nonsense"\nhint: mend that file/);
    assert.match(await env.zenith("pg", "list"), /^main +\? +\? +- +running \(.*port is "nonsense"\)$/m);
    const stopped = await env.zenith("stop");
    for (const what of ["Postgres of branch main", "safekeeper 3", "page server"]) {
      assert.match(stopped, new RegExp(`^${what} stopped$`, "m"));
    }
    const nothing = await survey();
    assert.equal(nothing.code, 3);
    assert.match(nothing.text, /problem: nothing runs\nhint: "zenith start"/);
    writeFileSync(conf, content);
    const early = await env.tryZenith("pg", "start", "main");
    assert.equal(early.code, 3);
    assert.match(
      early.stderr,
      /safekeeper 1, safekeeper 2, safekeeper 3 of 3 do not run.*\nhint: .*zenith start/,
    );
    await env.zenith("start");
    assert.equal(await main.value("SELECT count(*)::int FROM t"), 10000);
  });
});
