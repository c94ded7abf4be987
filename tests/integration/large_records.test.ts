/**
 * WAL records that are longer than anything on their way may hold: they pass, with and without safekeepers, and nobody needs
 * memory for them. `ZENITH_TEST_RECORD_MIB` makes them longer, up to 1020.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { checkPidFile } from "../../src/process/pid_file.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

const OPTIONS = { timeout: 600_000 };
const MIB = 1 << 20;
const RECORD_MIB = Number(process.env["ZENITH_TEST_RECORD_MIB"] ?? 130);
/** The most that a process may need beside what it has needed before: buffers and garbage, and in the supervisor the proposer's window. */
const GROWTH_MAX_MIB = 90;
const SUPERVISOR_GROWTH_MAX_MIB = 200;

/** One is in the test below. */
const SAFEKEEPERS = [0, 3];

/** The most memory that a process has had, in MiB. */
function peakMib(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)![1]) / 1024;
}

function supervisorPid(compute: Compute): number {
  const found = checkPidFile(compute.paths.pidFile);
  assert.ok(found.state === "running");
  return found.process.pid;
}

function emit(compute: Compute, mib: number): Promise<unknown> {
  return compute.query(`SELECT pg_logical_emit_message(true, 'large', repeat('z', ${mib * MIB}))`);
}

describe("a WAL record of hundreds of megabytes", () => {
  for (const safekeepers of SAFEKEEPERS) {
    test(
      `passes ${safekeepers} safekeepers, in little memory, while others are answered`,
      OPTIONS,
      async () => {
        await using env = await ZenithEnv.create({ safekeepers });
        const compute = await env.startCompute();
        await compute.query("CREATE TABLE t AS SELECT 1 AS n");
        // What the way of WAL needs anyway.
        await emit(compute, 20);
        await env.untilArrived();
        const processes = new Map([["page server", env.pageserver.pid], [
          "supervisor",
          supervisorPid(compute),
        ]]);
        for (const { id, pid } of env.safekeepers) processes.set(`safekeeper ${id}`, pid);
        const before = new Map([...processes].map(([name, pid]) => [name, peakMib(pid)]));

        let isPassing = true;
        const passed = emit(compute, RECORD_MIB).finally(() => isPassing = false);
        let answers = 0;
        while (isPassing) {
          await using client = env.pageserver.client();
          await client.branchList(env.defaultTenant);
          answers++;
        }
        await passed;
        assert.ok(answers > 2, `the page server answered ${answers} times`);
        await compute.query("INSERT INTO t VALUES (2)");
        await env.untilArrived();
        for (const [name, pid] of processes) {
          const growth = peakMib(pid) - before.get(name)!;
          const most = name === "supervisor" ? SUPERVISOR_GROWTH_MAX_MIB : GROWTH_MAX_MIB;
          if (process.env["ZENITH_TEST_RECORD_MIB"] !== undefined) {
            console.log(`${name}: ${growth.toFixed(0)} MiB more`);
          }
          assert.ok(growth < most, `the ${name} has needed ${growth.toFixed(0)} MiB more`);
        }
        // It lies between what the next start reads and where it begins.
        await compute.kill9();
        for (const safekeeper of env.safekeepers) {
          await safekeeper.kill9();
          await safekeeper.start();
        }
        await compute.start();
        assert.equal(await compute.value("SELECT string_agg(n::text, ' ' ORDER BY n) FROM t"), "1 2");
      },
    );
  }

  test("comes from Postgres again when the safekeeper has lost its beginning", OPTIONS, async () => {
    await using env = await ZenithEnv.create({ safekeepers: 1 });
    const [safekeeper] = env.safekeepers;
    const compute = await env.startCompute();
    await compute.query("CREATE TABLE t AS SELECT 1 AS n");
    const walBytes = async (): Promise<number> => (await safekeeper!.status())[0].wal_bytes;
    const start = await walBytes();
    const passed = emit(compute, RECORD_MIB);
    let hasPassed = false;
    passed.then(() => hasPassed = true, () => {});
    // The proposer has let go of some of it by then.
    await until("part of the record is there", async () => await walBytes() - start > 100 * MIB);
    assert.equal(hasPassed, false);
    await safekeeper!.kill9();
    await safekeeper!.start();
    await passed;
    await compute.query("INSERT INTO t VALUES (2)");
    await compute.kill9();
    await compute.start();
    assert.equal(await compute.value("SELECT string_agg(n::text, ' ' ORDER BY n) FROM t"), "1 2");
  });
});
