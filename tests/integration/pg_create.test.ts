import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;

before(async () => {
  env = await ZenithEnv.create();
});
after(() => env[Symbol.asyncDispose]());

describe("Postgres made at once", () => {
  test("for one branch are one, and the other is told so", async () => {
    const results = await Promise.all([1, 2].map(() => env.tryZenith("pg", "create", "main")));
    assert.deepEqual(results.map(({ code }) => code === 0).sort(), [false, true]);
    const failed = results.find(({ code }) => code !== 0)!;
    assert.match(failed.stderr, /branch main has a Postgres already/);
  });

  test("for six branches have six ports", async () => {
    const names = [1, 2, 3, 4, 5, 6].map((n) => `b${n}`);
    for (const name of names) await env.branch(name, "main");
    const printed = await Promise.all(names.map((name) => env.zenith("pg", "create", name)));
    const ports = printed.map((line) => /port (\d+)/.exec(line)?.[1]);
    assert.equal(new Set(ports).size, names.length, ports.join(", "));
  });
});
