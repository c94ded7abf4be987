import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { inStartQueue } from "../../../src/control/start_queue.ts";

const PLACES = 2;

/** Tickets of one millisecond have no order. */
async function nextTicket(): Promise<void> {
  for (const now = Date.now(); Date.now() === now;) await new Promise((resolve) => setTimeout(resolve, 1));
}

describe("the queue of starts", () => {
  let directory: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), "zenith-queue-"));
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  function enter<T>(start: () => Promise<T>, onWait = (): void => {}, signal?: AbortSignal): Promise<T> {
    return inStartQueue(join(directory, "starting"), onWait, start, signal, PLACES);
  }

  test("lets so many in at once, in their order, and is empty afterwards", async () => {
    let ended = 0;
    let waited = 0;
    const starts: Promise<void>[] = [];
    // Nobody goes on before all are in the queue.
    const { promise: allEntered, resolve: go } = Promise.withResolvers<void>();
    for (let i = 0; i < 12; i++) {
      const start = async (): Promise<void> => {
        assert.ok(i < ended + PLACES, `number ${i} starts when ${ended} have ended`);
        await allEntered;
        ended++;
      };
      starts.push(enter(start, () => waited++));
      await nextTicket();
    }
    go();
    await Promise.all(starts);
    assert.equal(ended, 12);
    assert.equal(waited, 12 - PLACES);
    assert.deepEqual(readdirSync(join(directory, "starting")), []);
  });

  test("goes on when a start fails", async () => {
    const failing = () => Promise.reject(new Error("no such thing"));
    const results = await Promise.allSettled([enter(failing), enter(failing), enter(failing)]);
    assert.ok(results.every((result) => result.status === "rejected"));
    assert.equal(await enter(() => Promise.resolve(1)), 1);
    assert.deepEqual(readdirSync(join(directory, "starting")), []);
  });

  test("lets go of those that wait when nobody wants them any more", async () => {
    const { promise: free, resolve: go } = Promise.withResolvers<void>();
    const ending = new AbortController();
    const inside: Promise<void>[] = [];
    for (let i = 0; i < PLACES; i++) {
      inside.push(enter(() => free, undefined, ending.signal));
      await nextTicket();
    }
    const { promise: allWait, resolve: waits } = Promise.withResolvers<void>();
    const last = enter(() => assert.fail("it has started"), waits, ending.signal);
    await allWait;
    ending.abort(new Error("nobody wants it"));
    await assert.rejects(last, /nobody wants it/);
    go();
    await Promise.all(inside);
    assert.deepEqual(readdirSync(join(directory, "starting")), []);
  });

  test("does not wait for processes that were killed", async () => {
    const module = new URL("../../../src/control/start_queue.ts", import.meta.url).href;
    const script = `const { inStartQueue } = await import(${JSON.stringify(module)});
      await inStartQueue(${JSON.stringify(join(directory, "starting"))}, () => {}, async () => {
        console.log("in");
        await new Promise((resolve) => setTimeout(resolve, 600000));
      }, undefined, 9);`;
    const runtime = "deno" in process.versions ? ["eval", script] : ["-e", script];
    const children = Array.from(
      { length: PLACES },
      () => spawn(process.execPath, runtime, { stdio: ["ignore", "pipe", "inherit"] }),
    );
    await Promise.all(children.map((child) => once(child.stdout, "data")));
    for (const child of children) child.kill("SIGKILL");
    await Promise.all(children.map((child) => once(child, "exit")));
    assert.equal(readdirSync(join(directory, "starting")).length, PLACES);
    assert.equal(await enter(() => Promise.resolve("in")), "in");
    assert.deepEqual(readdirSync(join(directory, "starting")), []);
  });
});
