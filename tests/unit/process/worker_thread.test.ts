import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { sharedBytes } from "../../../src/common/buffer_pool.ts";
import { ZenithError } from "../../../src/common/errors.ts";
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

  test("asks the one that has started it, and waits for the answer", async () => {
    const thread = new WorkerThread<EchoRequest, unknown>(
      "tests/unit/process/workers/echo_worker.ts",
      async (question: { readonly say: number }) => {
        await new Promise((resolve) => setTimeout(resolve, 10));
        if (question.say === 0) throw new ZenithError("unavailable", "nothing to say", { hint: "wait" });
        return new Uint8Array(question.say).fill(7);
      },
    );
    const ask = (say: number) => thread.run({ do: "ask", value: { say } });
    assert.deepEqual(await ask(3), [7, 7, 7]);
    await assert.rejects(ask(0), { name: "ZenithError", kind: "unavailable", hint: "wait" });
    assert.equal((await ask(256 << 10) as number[]).length, 256 << 10);
    await assert.rejects(ask((256 << 10) + 1), /not too long/);
    await assert.rejects(newThread().run({ do: "ask", value: { say: 1 } }), { kind: "not_implemented" });
  });

  test("that dies fails what it was asked, and is replaced", async () => {
    const thread = newThread();
    const [dying, waiting] = [thread.run({ do: "exit" }), thread.run({ do: "echo", value: 1 })];
    await assert.rejects(dying, { kind: "io", message: /has died/ });
    await assert.rejects(waiting, { kind: "io", message: /has died/ });
    assert.equal(await thread.run({ do: "echo", value: 5 }), 5);
  });
});
