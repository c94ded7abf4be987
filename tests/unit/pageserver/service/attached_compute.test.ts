import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { AttachedCompute } from "../../../../src/pageserver/service/attached_compute.ts";
import type { CopyBoth } from "../../../../src/pgwire/copy_both.ts";
import {
  type CheckpointOutcome,
  checkpointReply,
  parseCheckpointRequest,
} from "../../../../src/protocol/checkpoint_request.ts";

/** A compute at the other end, which answers as it is told. */
class Peer {
  readonly asked: number[] = [];
  readonly compute: AttachedCompute;
  readonly running: Promise<void>;
  #hear!: (bytes: Uint8Array) => void;
  #leave!: () => void;

  constructor() {
    const copy = {
      run: (handler: { onData(bytes: Uint8Array, off: number, len: number): void }) => {
        this.#hear = (bytes) => handler.onData(bytes, 0, bytes.length);
        return new Promise<void>((resolve) => this.#leave = resolve);
      },
      send: (bytes: Uint8Array) => void this.asked.push(parseCheckpointRequest(bytes)!),
    };
    this.compute = new AttachedCompute(copy as unknown as CopyBoth);
    this.running = this.compute.run();
  }

  answer(id: number, outcome: CheckpointOutcome): void {
    this.#hear(checkpointReply(id, outcome));
  }

  say(text: string): void {
    this.#hear(new TextEncoder().encode(text));
  }

  leave(): void {
    this.#leave();
  }
}

const never = new AbortController().signal;

describe("a compute that is asked for a checkpoint", () => {
  test("answers each question with its own", async () => {
    const peer = new Peer();
    const [one, two] = [peer.compute.checkpoint(never), peer.compute.checkpoint(never)];
    const [first, second] = peer.asked;
    peer.answer(second!, { redo: null });
    peer.answer(99, { redo: "0/1" });
    peer.answer(first!, { redo: "1/20" });
    assert.equal(await one, 0x1_0000_0020);
    assert.equal(await two, null);
  });

  test("says why it can't, leaves, or is not waited for any longer", async () => {
    const peer = new Peer();
    const refused = peer.compute.checkpoint(never);
    peer.answer(peer.asked[0]!, { failure: "out of walsenders" });
    await assert.rejects(refused, {
      kind: "unavailable",
      message: "the branch's Postgres: out of walsenders",
    });
    const cancel = new AbortController();
    const canceled = peer.compute.checkpoint(cancel.signal);
    cancel.abort(new Error("gone"));
    await assert.rejects(canceled, { message: "gone" });
    const left = peer.compute.checkpoint(never);
    peer.leave();
    await assert.rejects(left, { kind: "unavailable", message: /has stopped/ });
    await peer.running;
  });

  test("is told when it says what nobody understands", () => {
    const peer = new Peer();
    for (const text of ["", "{}", '{"checkpoint":0}', '{"checkpoint":1,"redo":5}', "\u0000"]) {
      assert.throws(() => peer.say(text), { kind: "protocol" }, text);
    }
    const asking = peer.compute.checkpoint(never);
    peer.answer(peer.asked[0]!, { redo: "nowhere" });
    return assert.rejects(asking, { kind: "protocol" });
  });
});
