import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { sharedBytes } from "../../../src/common/buffer_pool.ts";
import { WorkerThread } from "../../../src/process/worker_thread.ts";
import type { EchoRequest } from "./workers/echo_worker.ts";

const newThread = () => new WorkerThread<EchoRequest, unknown>("tests/unit/process/workers/echo_worker.ts");

describe("a worker thread", () => {
  test("answers requests in their order", async () => {
    const thread = newThread();
    const answers = await Promise.all([1, 2, 3].map((value) => thread.run({ do: "echo", value })));
    assert.deepEqual(answers, [1, 2, 3]);
  });

  test("works on shared memory itself", async () => {
    const bytes = sharedBytes(1);
    await newThread().run({ do: "add", value: bytes });
    assert.equal(bytes[0], 1);
  });

  test("hands on what is thrown there, and goes on", async () => {
    const thread = newThread();
    await assert.rejects(thread.run({ do: "fail" }), {
      name: "ZenithError",
      kind: "disk_full",
      message: "no space",
      hint: "make some",
    });
    await assert.rejects(thread.run({ do: "break", value: {} }), { name: "Error", message: /nothing/ });
    assert.equal(await thread.run({ do: "echo", value: 4 }), 4);
  });

  test("that dies fails what it was asked, and is replaced", async () => {
    const thread = newThread();
    const [dying, waiting] = [thread.run({ do: "exit" }), thread.run({ do: "echo", value: 1 })];
    await assert.rejects(dying, { kind: "io", message: /has died/ });
    await assert.rejects(waiting, { kind: "io", message: /has died/ });
    assert.equal(await thread.run({ do: "echo", value: 5 }), 5);
  });
});
