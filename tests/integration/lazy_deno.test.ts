/** Everything on Deno: the command line, the servers, the mount and the thread that serves it. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { checkPidFile, isRunning } from "../../src/process/pid_file.ts";
import { postmasterPid } from "../../src/compute/postgres/postgres_process.ts";
import { zenithOnDeno } from "../harness/cli.ts";
import { dropPageCache, isMounted } from "../harness/lazy_files.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

const CONTENT = "SELECT count(*) || ' ' || sum(hashtextextended(t::text, 1)) FROM t";

let env: ZenithEnv;
let compute: Compute;

before(async () => {
  env = await ZenithEnv.create({ storage: "lazy", cli: { command: zenithOnDeno() } });
  compute = await env.startCompute("main");
  await compute.query(
    "CREATE TABLE t AS SELECT n, repeat('x', 500) AS filler FROM generate_series(1, 5000) n",
  );
});
after(() => env[Symbol.asyncDispose]());

function supervisor() {
  const found = checkPidFile(compute.paths.pidFile);
  assert(found.state === "running");
  return found.process;
}

describe("a lazy compute on Deno", () => {
  test("reads after a restart what it has written, from the page server and from its overlay", async () => {
    assert.match(readFileSync(`/proc/${supervisor().pid}/cmdline`, "utf8"), /deno/);
    const content = await compute.value(CONTENT);
    await compute.restart();
    assert(isMounted(compute.paths));
    assert.equal(await compute.value(CONTENT), content);
    dropPageCache(compute.paths);
    assert.equal(await compute.value(CONTENT), content);
  });

  test("prewarms", async () => {
    await compute.stop();
    await env.zenith("pg", "start", "main", "--prewarm");
    await until("it has", () => /"prewarmed"/.test(compute.log()));
    await compute.query("UPDATE t SET n = -n WHERE n % 2 = 0");
    const content = await compute.value(CONTENT);
    await compute.restart();
    assert.equal(await compute.value(CONTENT), content);
  });

  test("ends when its supervisor is killed, and can be started again", async () => {
    const content = await compute.value(CONTENT);
    const killed = supervisor();
    process.kill(killed.pid, "SIGKILL");
    await until("the supervisor has ended", () => !isRunning(killed));
    await until("Postgres has ended", () => postmasterPid(compute.paths.pgdata) === undefined);
    await compute.start();
    assert.equal(await compute.value(CONTENT), content);
    await compute.stop();
    assert(!isMounted(compute.paths));
  });
});
