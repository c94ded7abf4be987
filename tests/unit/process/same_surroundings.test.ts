import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { describe, test } from "node:test";
import { hasSameSurroundings, isOfSameProgram } from "../../../src/process/same_surroundings.ts";

/** No process has it: pid_max is lower. */
const NO_PID = 2 ** 30;

describe("a process", () => {
  test("could have been started by itself", () => {
    assert.equal(isOfSameProgram(process.pid), true);
    assert.equal(hasSameSurroundings(process.pid), true);
  });

  test("of another program, with another priority or gone, can't do this one's work", async () => {
    const child = spawn("nice", ["-n", "5", "cat"], { stdio: ["pipe", "pipe", "ignore"] });
    try {
      // What cat says back shows that nice has become it.
      child.stdin.write("x");
      await once(child.stdout, "data");
      assert.equal(isOfSameProgram(child.pid!), false);
      assert.equal(hasSameSurroundings(child.pid!), false);
    } finally {
      child.stdin.end();
      await once(child, "close");
    }
    assert.equal(isOfSameProgram(NO_PID), false);
    assert.equal(hasSameSurroundings(NO_PID), false);
  });
});
