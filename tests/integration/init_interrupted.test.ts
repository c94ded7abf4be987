import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { childOutput } from "../harness/child_output.ts";
import { zenithCommand } from "../harness/cli.ts";
import { until } from "../harness/zenith_env.ts";

/** Whatever works in `root`, or was told of it on its command line. */
function processesOf(root: string): string[] {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((pid) => {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
      return command.includes(root) || readlinkSync(`/proc/${pid}/cwd`).startsWith(root)
        ? [`${pid} ${command}`]
        : [];
    } catch {
      return [];
    }
  });
}

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  test(`init that gets ${signal} while it makes the first tenant leaves nothing running, and nothing behind`, async () => {
    const dir = mkdtempSync(join(tmpdir(), "zenith-interrupted-"));
    chmodSync(dir, 0o755);
    const root = join(dir, "env");
    try {
      const [file, ...args] = zenithCommand();
      const child = spawn(file!, [...args, "init"], {
        env: { ...process.env, ZENITH_REPO_DIR: root },
        stdio: ["ignore", "pipe", "pipe"],
      });
      const ended = childOutput(child);
      await until("initdb runs", () => existsSync(join(root, "initdb-cache")));
      child.kill(signal);
      const { code, stderr } = await ended;
      assert.notEqual(code, 0);
      assert.match(stderr, new RegExp(`ended by ${signal}: nothing was made, and nothing is left running`));
      assert.ok(!existsSync(root));
      assert.deepEqual(processesOf(root), []);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });
}
