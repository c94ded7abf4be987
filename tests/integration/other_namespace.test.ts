/** A second container with the same volume: what runs in the first can't be seen by its process id. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import type { Survey } from "../../src/control/survey/survey.ts";
import { zenithCommand } from "../harness/cli.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

/** A PID namespace of its own; not only root may have one. */
const UNSHARE = ["--pid", "--fork", "--mount-proc", ...(process.getuid!() === 0 ? [] : ["--map-root-user"])];
const CONFLICT = 5;

let env: ZenithEnv;
let main: Compute;

before(async () => {
  env = await ZenithEnv.create({ safekeepers: 1 });
  main = await env.startCompute("main");
  await main.query("CREATE TABLE t (n int)");
});
after(() => env[Symbol.asyncDispose]());

function elsewhere(...args: string[]): { code: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync("unshare", [...UNSHARE, ...zenithCommand(), ...args], {
    encoding: "utf8",
    env: { ...process.env, ZENITH_REPO_DIR: env.repoDir },
  });
  return { code: status, stdout, stderr };
}

describe("from another PID namespace", () => {
  test("status says that everything runs elsewhere, not that it was killed", () => {
    const { stdout } = elsewhere("status", "--json");
    const { page_server, safekeepers, computes, problems } = JSON.parse(stdout) as Survey;
    const states = [page_server, ...safekeepers, ...computes].map(({ status }) => status);
    assert.deepEqual(states, ["elsewhere", "elsewhere", "elsewhere"]);
    assert.equal(problems.length, 3);
    for (const { what } of problems) assert.match(what, / runs elsewhere \(another container\?\)$/);
  });

  test("nothing that runs is destroyed, stopped, started again or checked as if it were at rest", async () => {
    for (
      const command of [
        ["pg", "stop", "main", "--destroy"],
        ["pg", "stop", "main"],
        ["pg", "start", "main"],
        ["stop"],
        ["fsck", env.repoDir],
        ["fsck", env.safekeepers[0].paths.workdir],
      ]
    ) {
      const { code, stderr } = elsewhere(...command);
      assert.match(stderr, /runs elsewhere \(another container\?\): .*\.lock is locked/, command.join(" "));
      assert.equal(code, CONFLICT, command.join(" "));
    }
    assert.ok(existsSync(main.paths.pgdata));
    await main.query("INSERT INTO t VALUES (1)");
    assert.equal((await env.tryZenith("status")).code, 0);
  });

  test("what was stopped or killed is told apart from it", async () => {
    await main.stop();
    await env.safekeepers[0].kill9();
    const { safekeepers, computes } = JSON.parse(elsewhere("status", "--json").stdout) as Survey;
    assert.deepEqual([...safekeepers, ...computes].map(({ status }) => status), ["crashed", "stopped"]);
  });
});
