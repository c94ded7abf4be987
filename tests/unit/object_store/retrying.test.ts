import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { RetryingStore } from "../../../src/object_store/retrying.ts";
import { MemoryStore } from "../../harness/memory_store.ts";
import { failsWith, objectStoreSuite } from "../../harness/object_store_suite.ts";

const ONE = Uint8Array.of(1);
const TWO = Uint8Array.of(2);

function stores(attempts = 3): { memory: MemoryStore; store: RetryingStore } {
  const memory = new MemoryStore();
  return { memory, store: new RetryingStore(memory, { attempts, firstWaitMs: 1 }) };
}

describe("an object store in memory", () => {
  const { store } = stores();
  objectStoreSuite(() => store);
});

describe("a retrying object store", () => {
  test("tries again when the store is busy, and counts it", async () => {
    const { memory, store } = stores();
    memory.failAt(0, "throttled");
    await store.put("a", ONE);
    assert.deepEqual(memory.objects.get("a"), ONE);
    assert.deepEqual(store.counts, { requests: 2, retries: 1, sentBytes: 1, receivedBytes: 0 });
  });

  test("gives up after some attempts", async () => {
    const { memory, store } = stores();
    memory.failAt(0, "gone");
    await assert.rejects(store.get("a"), failsWith("unreachable"));
    assert.equal(memory.requests, 3);
  });

  test("does not repeat what the store has refused", async () => {
    const { memory, store } = stores();
    await assert.rejects(store.get("a"), failsWith("absent"));
    await store.putIfAbsent("a", ONE);
    await assert.rejects(store.putIfAbsent("a", ONE), failsWith("precondition"));
    assert.equal(memory.requests, 3);
  });

  test("knows its own object again when the answer to its creation was lost", async () => {
    const { memory, store } = stores();
    memory.failAt(0, "lostAnswer");
    await store.putIfAbsent("a", ONE);
    assert.deepEqual(memory.objects.get("a"), ONE);
  });

  test("does not take another's object for its own", async () => {
    const { memory, store } = stores();
    await store.put("a", TWO);
    memory.failAt(0, "lostAnswer");
    await assert.rejects(store.putIfAbsent("a", ONE), failsWith("precondition"));
    assert.deepEqual(memory.objects.get("a"), TWO);
  });
});
