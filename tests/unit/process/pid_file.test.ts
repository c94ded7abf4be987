import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, test } from "node:test";
import { checkPidFile, claimPidFile, startTimeOf } from "../../../src/process/pid_file.ts";

/** A PID namespace of its own, where the first process has the number 1; the second option lets everybody have one. */
const UNSHARE = ["--pid", "--fork", "--mount-proc", "--map-root-user"];

let dir: string;
let path: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "zenith-pid-"));
  path = join(dir, "role.pid");
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe("a pid file", () => {
  test("names the process that claims it, until that releases it", () => {
    assert.deepEqual(checkPidFile(path), { state: "absent" });
    const claim = claimPidFile(path);
    const found = checkPidFile(path);
    assert.equal(found.state === "running" && found.process.pid, process.pid);
    assert.deepEqual(readdirSync(dir).sort(), ["role.lock", "role.pid"]);
    claim.release();
    assert.deepEqual(checkPidFile(path), { state: "absent" });
  });

  test("that was removed, or is another's, is not held any more", () => {
    const claim = claimPidFile(path);
    assert.equal(claim.isHeld(), true);
    writeFileSync(path, "1\n1\n");
    assert.equal(claim.isHeld(), false);
    rmSync(path);
    assert.equal(claim.isHeld(), false);
  });

  test("can't be claimed while its process runs", () => {
    const claim = claimPidFile(path);
    assert.throws(() => claimPidFile(path), /already running with process id/);
    assert.deepEqual(readdirSync(dir).sort(), ["role.lock", "role.pid"]);
    claim.release();
  });

  test("keeps others out whose process ids are not ours, as in another container", async () => {
    const script = fileURLToPath(new URL("./claim.ts", import.meta.url));
    const run = (...args: string[]) =>
      spawn("unshare", [...UNSHARE, ...args], { stdio: ["pipe", "pipe", "pipe"] });
    const runtime = [
      process.execPath,
      ...("Deno" in globalThis ? ["run", "--allow-all", "--no-check", "--quiet"] : []),
    ];
    const first = run(...runtime, script, path);
    assert.equal(String((await once(first.stdout, "data"))[0]).trim(), "claimed");
    const second = run(...runtime, script, path);
    assert.match(String((await once(second.stdout, "data"))[0]), /already running in another container/);
    assert.throws(() => claimPidFile(path), /already running in another container/);
    assert.deepEqual(checkPidFile(path), { state: "elsewhere" });
    first.stdin.end();
    second.stdin.end();
    await Promise.all([once(first, "exit"), once(second, "exit")]);
    assert.notEqual(checkPidFile(path).state, "elsewhere");
    claimPidFile(path).release();
  });

  test("of a process that has ended is stale, and is taken over", async () => {
    const child = spawn("true");
    await once(child, "exit");
    writeFileSync(path, `${child.pid}\n12345\n`);
    assert.deepEqual(checkPidFile(path), { state: "stale" });
    const claim = claimPidFile(path);
    assert.equal(checkPidFile(path).state, "running");
    claim.release();
  });

  test("whose number another process has now is stale", () => {
    const claim = claimPidFile(path);
    const [pid, startTime] = readFileSync(path, "utf8").split("\n");
    writeFileSync(path, `${pid}\n${Number(startTime) - 1}\n`);
    claim.release();
    assert.equal(existsSync(path), true, "somebody else's claim is not released");
    assert.deepEqual(checkPidFile(path), { state: "stale" });
  });

  test("with something else in it is stale", () => {
    writeFileSync(path, "not a number");
    assert.deepEqual(checkPidFile(path), { state: "stale" });
  });

  test("names a process that was killed until its last thread has ended", () => {
    const stat = (state: string, threads: number) =>
      `4711 (a (strange) name) ${state} 1 1 1 0 -1 4 0 0 0 0 0 0 0 0 20 0 ${threads} 0 987654 0 0`;
    assert.equal(startTimeOf(stat("S", 7)), "987654");
    assert.equal(startTimeOf(stat("Z", 2)), "987654", "a thread has its files and ports open");
    assert.equal(startTimeOf(stat("Z", 1)), undefined);
    assert.equal(startTimeOf(stat("X", 0)), undefined);
  });
});
