import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const MODULE = join(import.meta.dirname!, "..", "..", "..", "src", "process", "core_dumps.ts");

/** How the shell says that the kernel wrote one, wherever it went. */
const DUMPED = /core dumped/;

test("a process that forbids core dumps leaves none when it crashes, and can allow them again", (context) => {
  const dir = mkdtempSync(join(tmpdir(), "zenith-core-"));
  try {
    const script = join(dir, "crash.ts");
    writeFileSync(
      script,
      `import { allowCoreDumps, forbidCoreDumps, mayDumpCore } from ${JSON.stringify(MODULE)};
      const how = process.argv[2];
      if (how !== "allow") forbidCoreDumps();
      if (how === "again") allowCoreDumps();
      console.log(mayDumpCore());
      process.kill(process.pid, "SIGABRT");
      setTimeout(() => {}, 10_000);`,
    );
    const crash = (how: string) => {
      const runtime = "Deno" in globalThis ? ["run", "--allow-all"] : [];
      const run = spawnSync(
        "sh",
        ["-c", 'ulimit -c 100 && "$@"; true', "sh", process.execPath, ...runtime, script, how],
        { cwd: dir, encoding: "utf8" },
      );
      return { dumped: DUMPED.test(run.stderr), may: run.stdout.trim() };
    };
    const allowed = crash("allow");
    if (!allowed.dumped) return context.skip("this machine writes no core dumps");
    assert.deepEqual(allowed, { dumped: true, may: "true" });
    for (const name of readdirSync(dir)) if (name.startsWith("core")) rmSync(join(dir, name));
    assert.deepEqual(crash("forbid"), { dumped: false, may: "false" });
    assert.deepEqual(readdirSync(dir), ["crash.ts"]);
    assert.deepEqual(crash("again"), { dumped: true, may: "true" });
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
