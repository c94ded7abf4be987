/** What every object store does: one suite, run over each backend. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  isFailure,
  listAll,
  type ObjectStore,
  type StoreFailure,
} from "../../src/object_store/object_store.ts";
import { probeObjectStore } from "../../src/object_store/open_store.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (body: Uint8Array) => new TextDecoder().decode(body);

export const failsWith = (failure: StoreFailure) => (error: unknown): boolean => isFailure(error, failure);

/** @param open returns the store; each test has a folder of its own there */
export function objectStoreSuite(open: () => ObjectStore): void {
  test("gives back what was put, whole and in parts", async () => {
    const store = open();
    const body = new Uint8Array(300_000).map((_, i) => i * 7);
    await store.put("whole/a", body);
    assert.deepEqual(await store.get("whole/a"), body);
    assert.deepEqual(await store.get("whole/a", { start: 1000, end: 1010 }), body.slice(1000, 1010));
    assert.deepEqual(await store.get("whole/a", { start: 299_999, end: 300_000 }), body.slice(-1));
    await store.put("whole/empty", new Uint8Array());
    assert.equal((await store.get("whole/empty")).length, 0);
  });

  test("replaces an object as a whole", async () => {
    const store = open();
    await store.put("replace/a", bytes("long before"));
    await store.put("replace/a", bytes("now"));
    assert.equal(text(await store.get("replace/a")), "now");
  });

  test("lets one of eight create an object, and tells the others", async () => {
    const store = open();
    const bodies = Array.from({ length: 8 }, (_, i) => `writer ${i}`);
    const results = await Promise.allSettled(
      bodies.map((body) => store.putIfAbsent("race/a", bytes(body))),
    );
    const winners = results.flatMap(({ status }, i) => status === "fulfilled" ? [i] : []);
    assert.equal(winners.length, 1);
    for (const result of results) {
      if (result.status === "rejected") assert.ok(failsWith("precondition")(result.reason), result.reason);
    }
    assert.equal(text(await store.get("race/a")), bodies[winners[0]!]);
  });

  test("says that an object is absent", async () => {
    const store = open();
    await assert.rejects(store.get("absent/a"), failsWith("absent"));
    await assert.rejects(store.get("absent/a", { start: 0, end: 10 }), failsWith("absent"));
  });

  test("lists by prefix, in order, page by page", async () => {
    const store = open();
    const keys = ["list/a", "list/a-b", "list/a.c", "list/a0", "list/b/1", "list/b/2", "list/c/d/e"];
    for (const key of keys) await store.put(key, bytes(key));
    await store.put("listed/a", bytes("another folder's"));
    const listed: string[] = [];
    for await (const { key, sizeBytes } of listAll(store, "list/")) {
      listed.push(key);
      assert.equal(sizeBytes, key.length);
    }
    const sorted = keys.slice().sort();
    assert.deepEqual(listed, sorted);

    const paged: string[] = [];
    let pages = 0;
    for (let from: string | null | undefined = undefined; from !== null; pages++) {
      const page = await store.list("list/", { limit: 3, ...(from === undefined ? {} : { from }) });
      assert.ok(page.objects.length <= 3);
      paged.push(...page.objects.map(({ key }) => key));
      from = page.next;
    }
    assert.deepEqual(paged, sorted);
    assert.equal(pages, 3);

    const narrow = await store.list("list/b/");
    assert.deepEqual(narrow.objects.map(({ key }) => key), ["list/b/1", "list/b/2"]);
    assert.deepEqual((await store.list("list/nothing")).objects, []);
  });

  test("lists folders", async () => {
    const store = open();
    for (const key of ["shallow/one/x", "shallow/one/y", "shallow/two/z", "shallow/file"]) {
      await store.put(key, bytes(key));
    }
    const page = await store.list("shallow/", { shallow: true });
    assert.deepEqual(page.folders, ["shallow/one/", "shallow/two/"]);
    assert.deepEqual(page.objects.map(({ key }) => key), ["shallow/file"]);
    const first = await store.list("shallow/", { shallow: true, limit: 2 });
    const rest = await store.list("shallow/", { shallow: true, from: first.next! });
    assert.deepEqual([...first.folders, ...rest.folders], ["shallow/one/", "shallow/two/"]);
  });

  test("removes many objects, and those that are not there", async () => {
    const store = open();
    for (const key of ["remove/a", "remove/b", "remove/c"]) await store.put(key, bytes(key));
    await store.deleteMany(["remove/a", "remove/never", "remove/c"]);
    assert.deepEqual((await store.list("remove/")).objects.map(({ key }) => key), ["remove/b"]);
    await store.deleteMany([]);
  });

  test("passes the probe, and keeps nothing of it", async () => {
    const store = open();
    await probeObjectStore(store);
    assert.deepEqual((await store.list("probe/")).objects, []);
  });
}
