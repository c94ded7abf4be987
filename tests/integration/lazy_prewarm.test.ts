/** What a lazy compute used before it was stopped is fetched after its start, ahead of need. */
import assert from "node:assert/strict";
import { copyFileSync, existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { checkPidFile, isRunning } from "../../src/process/pid_file.ts";
import { readConditions } from "../../src/compute/postgres/conditions.ts";
import { postmasterPid } from "../../src/compute/postgres/postgres_process.ts";
import { saveEnvironment } from "../../src/control/environment.ts";
import { ACCOUNTS_CONTENT, createAccounts } from "../harness/accounts.ts";
import { addSettings } from "../harness/branching.ts";
import { dropPageCache, isMounted, overlayBytes } from "../harness/lazy_files.ts";
import { amcheck } from "../harness/programs.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

/** Some 30 MB with its index. */
const ROWS = 40_000;

let env: ZenithEnv;
let compute: Compute;
let content: unknown;

before(async () => {
  env = await ZenithEnv.create({ storage: "lazy" });
  compute = await env.createCompute("main");
  addSettings(compute, "shared_buffers = '1MB'", "autovacuum = off");
  await compute.start();
  await createAccounts(compute, ROWS);
  await compute.query(
    "CREATE TABLE cold AS SELECT n, repeat('x', 500) AS filler FROM generate_series(1, 1000) n",
  );
  await compute.query("VACUUM (FREEZE, ANALYZE)");
  await compute.restart();
  content = await compute.value(ACCOUNTS_CONTENT);
  await compute.stop();
  copyFileSync(compute.paths.hotPages, hotPagesCopy());
});
after(() => env[Symbol.asyncDispose]());

/** Each test begins with the same hot pages, whatever the one before has used. */
beforeEach(() => copyFileSync(hotPagesCopy(), compute.paths.hotPages));

function hotPagesCopy(): string {
  return join(env.dir, "hot_pages");
}

async function startPrewarming(): Promise<void> {
  await env.zenith("pg", "start", "main", "--prewarm");
}

function isPrewarming(): boolean {
  return readConditions(compute.paths).some(({ text }) => text.startsWith("prewarming"));
}

async function untilPrewarmed(): Promise<void> {
  await until("all is prewarmed", () => !isPrewarming());
}

function configure(settings: { overlay_max_mb?: number; prewarm?: boolean }): void {
  const { paths, config } = env.environment;
  saveEnvironment({
    paths,
    config: { ...config, compute: { storage: "lazy", spares_ahead: false, ...settings } },
  });
}

describe("a compute that is started with --prewarm", () => {
  test("reads what was hot without its page server, and waits for what was not", async () => {
    await startPrewarming();
    await untilPrewarmed();
    await env.pageserver.kill9();
    assert.equal(await compute.value(ACCOUNTS_CONTENT), content);
    dropPageCache(compute.paths);
    assert.equal(await compute.value(ACCOUNTS_CONTENT), content);
    let answered = false;
    const cold = compute.value("SELECT count(filler) FROM cold").finally(() => answered = true);
    await until(
      "the page server is missed",
      async () => (await env.zenith("pg", "list")).includes("wait for the page server"),
    );
    assert.equal(answered, false);
    await env.pageserver.start();
    assert.equal(await cold, "1000");
    await compute.stop();
  });

  test("does so by its environment's configuration too", async () => {
    configure({ prewarm: true });
    await compute.start();
    await untilPrewarmed();
    await env.pageserver.kill9();
    assert.equal(await compute.value(ACCOUNTS_CONTENT), content);
    await env.pageserver.start();
    await compute.stop();
    configure({});
  });

  test("keeps what is written meanwhile", async () => {
    await startPrewarming();
    await compute.query("UPDATE accounts SET balance = id WHERE id % 7 = 0");
    await compute.query("CHECKPOINT");
    await untilPrewarmed();
    const changed = await compute.value("SELECT count(*) FROM accounts WHERE balance = id");
    assert.equal(changed, String(Math.floor(ROWS / 7)));
    const updated = await compute.value(ACCOUNTS_CONTENT);
    dropPageCache(compute.paths);
    assert.equal(await compute.value(ACCOUNTS_CONTENT), updated);
    await amcheck(compute, ["postgres"]);
    await compute.restart();
    assert.equal(await compute.value(ACCOUNTS_CONTENT), updated);
    await compute.query("UPDATE accounts SET balance = 0 WHERE balance <> 0");
    content = await compute.value(ACCOUNTS_CONTENT);
    await compute.stop();
  });

  test("does not mind that hot pages have been cut off or dropped since", async () => {
    await compute.start();
    await compute.query("DROP TABLE cold");
    await compute.query("CREATE TABLE cold (n int, filler text)");
    await compute.query("INSERT INTO cold SELECT n, repeat('x', 500) FROM generate_series(1, 1000) n");
    await compute.query("DELETE FROM accounts WHERE id > 20000");
    await compute.query("VACUUM accounts");
    await compute.query("INSERT INTO accounts SELECT n, 0, 'again' FROM generate_series(20001, 30000) n");
    content = await compute.value(ACCOUNTS_CONTENT);
    await compute.stop();
    copyFileSync(hotPagesCopy(), compute.paths.hotPages);
    await startPrewarming();
    await untilPrewarmed();
    assert.equal(await compute.value(ACCOUNTS_CONTENT), content);
    await amcheck(compute, ["postgres"]);
    await compute.stop();
  });

  test("fetches no more than the overlay should hold", async () => {
    const maxMb = 8;
    configure({ overlay_max_mb: maxMb });
    await startPrewarming();
    await untilPrewarmed();
    const bytes = overlayBytes(compute.paths);
    assert(bytes > 0 && bytes <= (maxMb << 20) + (256 << 10), `${bytes} bytes`);
    assert.equal(await compute.value(ACCOUNTS_CONTENT), content);
    await compute.stop();
    configure({});
  });

  test("starts all the same when the list of hot pages is damaged, and says so", async () => {
    writeFileSync(compute.paths.hotPages, "ZHOT");
    await startPrewarming();
    assert(!isPrewarming());
    assert.match(compute.log(), /hot_pages is of no use/);
    assert.equal(await compute.value(ACCOUNTS_CONTENT), content);
    await compute.stop();
  });

  test("leaves nothing behind when its supervisor is killed in the middle of it", async () => {
    await startPrewarming();
    process.kill(env.pageserver.pid, "SIGSTOP");
    while (!isPrewarming()) {
      // It was faster.
      process.kill(env.pageserver.pid, "SIGCONT");
      await compute.stop();
      copyFileSync(hotPagesCopy(), compute.paths.hotPages);
      await startPrewarming();
      process.kill(env.pageserver.pid, "SIGSTOP");
    }
    const supervisor = checkPidFile(compute.paths.pidFile);
    assert(supervisor.state === "running");
    process.kill(supervisor.process.pid, "SIGKILL");
    await until("the supervisor has ended", () => !isRunning(supervisor.process));
    await until("Postgres has ended", () => postmasterPid(compute.paths.pgdata) === undefined);
    process.kill(env.pageserver.pid, "SIGCONT");
    await compute.start();
    assert.equal(await compute.value(ACCOUNTS_CONTENT), content);
    await amcheck(compute, ["postgres"]);
    await compute.stop();
    assert(!isMounted(compute.paths));
    assert(!existsSync(compute.paths.overlay));
  });
});
