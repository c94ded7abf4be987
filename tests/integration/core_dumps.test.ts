/** What holds tokens, passwords or pages leaves no core dump, however it dies. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { readdirSync, readlinkSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { checkPidFile, isRunning, type ProcessIdentity } from "../../src/process/pid_file.ts";
import { findProgram } from "../../src/process/find_program.ts";
import { until, ZenithEnv } from "../harness/zenith_env.ts";

const OPTIONS = { skip: findProgram("prlimit") === undefined && "there is no prlimit" };

/** The core dumps that a crash in `dir` has left. */
const cores = (dir: string) => readdirSync(dir).filter((name) => /^core(?:\.\d+)?$/.test(name));

test("page server, safekeeper and supervisor leave no core dump", OPTIONS, async (context) => {
  await using env = await ZenithEnv.create({ safekeepers: 1 });
  const compute = await env.startCompute("main");
  await compute.query("CREATE TABLE t (n int)");

  /** Lets a process dump core, and makes it. */
  const abort = async (server: ProcessIdentity): Promise<void> => {
    assert.equal(spawnSync("prlimit", ["--pid", String(server.pid), "--core=unlimited"]).status, 0);
    process.kill(server.pid, "SIGABRT");
    await until(`process ${server.pid} has ended`, () => !isRunning(server));
  };
  const bystander = spawn("sleep", ["60"], { cwd: env.dir, stdio: "ignore" });
  const ended = new Promise((resolve) => bystander.on("exit", resolve));
  spawnSync("prlimit", ["--pid", String(bystander.pid), "--core=unlimited"]);
  bystander.kill("SIGABRT");
  await ended;
  const [dump] = cores(env.dir);
  if (dump === undefined) return context.skip("this machine writes core dumps elsewhere");
  assert.ok(statSync(join(env.dir, dump)).size > 0);
  rmSync(join(env.dir, dump));

  const files = [compute.paths.pidFile, env.safekeepers[0]!.paths.pidFile, env.paths.pageserver.pidFile];
  for (const file of files) {
    const found = checkPidFile(file);
    assert.ok(found.state === "running", file);
    const cwd = readlinkSync(`/proc/${found.process.pid}/cwd`);
    await abort(found.process);
    assert.deepEqual(cores(cwd), [], file);
  }
});
