/** Object stores that misbehave for longer than a request: what else fails is in uploads.test.ts. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type ObjectStore, ObjectStoreError } from "../../../../src/object_store/object_store.ts";
import { MemoryStore } from "../../../harness/memory_store.ts";
import { RemoteTenant } from "../../../harness/remote_tenant.ts";

async function everything(tenant: RemoteTenant): Promise<void> {
  await tenant.upload.uploadFiles();
  await tenant.upload.uploadWal();
  await tenant.upload.uploadFiles();
}

/** A store that refuses everything for as long as it is told to: wrong credentials, or no bucket. */
function refusing(store: ObjectStore): { readonly store: ObjectStore; refuses: boolean } {
  const state = { refuses: false, store };
  state.store = new Proxy(store, {
    get: (target, name) => {
      const value = Reflect.get(target, name) as unknown;
      if (typeof value !== "function") return value;
      return (...args: unknown[]) =>
        state.refuses
          ? Promise.reject(new ObjectStoreError("denied", "403, SignatureDoesNotMatch"))
          : Reflect.apply(value, target, args);
    },
  });
  return state;
}

describe("a store in bad weather", () => {
  test("may list late: nobody takes a generation twice, and all of it is there", async () => {
    const memory = new MemoryStore();
    const tenant = await RemoteTenant.create(memory, 60_000);
    await tenant.write("main", 9);
    await everything(tenant);
    memory.lag(true);
    for (let start = 0; start < 3; start++) {
      await tenant.restart();
      await tenant.write("main", 9);
      await tenant.flush("main");
      await everything(tenant);
      assert.equal(tenant.upload.takenOver, null);
    }
    memory.lag(false);
    const restored = await RemoteTenant.restore(memory);
    assert.deepEqual(await restored.ends(), await tenant.ends());
    memory.lag(true);
    // Who is behind by any number of generations still notices it.
    await (await RemoteTenant.restore(memory)).close();
    await tenant.write("main", 1);
    await assert.rejects(everything(tenant), { kind: "conflict" });
    await Promise.all([tenant.close(), restored.close()]);
  });

  test("may refuse for hours: that is said, nothing is reported, and all of it goes up afterwards", async () => {
    const memory = new MemoryStore();
    const state = refusing(memory);
    const tenant = await RemoteTenant.create(state.store, 60_000);
    await tenant.write("main", 3);
    await everything(tenant);
    const reported = await tenant.reported("main");
    state.refuses = true;
    for (let hour = 0; hour < 5; hour++) {
      tenant.nowMs += 3_600_000;
      await tenant.branch(`hour${hour}`, "main");
      await tenant.write("main", 20, 5_000);
      await tenant.flush("main");
      await tenant.merge("main");
      await assert.rejects(tenant.upload.uploadWal(), { kind: "invalid_argument" });
      await assert.rejects(tenant.upload.uploadFiles(), { kind: "invalid_argument" });
      const { error, pendingSinceMs } = tenant.upload.status();
      assert.match(error!, /SignatureDoesNotMatch/);
      assert.ok(tenant.nowMs - pendingSinceMs! >= hour * 3_600_000);
      assert.equal(await tenant.reported("main"), reported);
    }
    state.refuses = false;
    await everything(tenant);
    assert.equal(tenant.upload.status().error, null);
    assert.equal(tenant.upload.status().pendingSinceMs, null);
    const restored = await RemoteTenant.restore(memory);
    assert.deepEqual(positions(await restored.ends()), positions(await tenant.ends()));
    await Promise.all([tenant.close(), restored.close()]);
  });
});

/** Where each branch ends. */
function positions(ends: ReadonlyMap<string, { readonly position: number }>): unknown[] {
  return Array.from(ends, ([name, { position }]) => [name, position]).sort();
}
