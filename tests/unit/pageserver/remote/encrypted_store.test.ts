import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { parseTenantId } from "../../../../src/common/id.ts";
import { generateStoreKey } from "../../../../src/object_store/key_file.ts";
import { buryTenant } from "../../../../src/pageserver/remote/bury.ts";
import { EncryptedStore } from "../../../../src/pageserver/remote/encrypted_store.ts";
import { TenantKeys } from "../../../../src/pageserver/remote/keys.ts";
import { readCurrentManifest } from "../../../../src/pageserver/remote/remote_state.ts";
import { KeyFile } from "../../../harness/key_file.ts";
import { MemoryStore } from "../../../harness/memory_store.ts";
import { RemoteTenant } from "../../../harness/remote_tenant.ts";
import { TINY_PATHS, TINY_TENANT } from "../../../harness/tiny_page_server.ts";

const keys = new KeyFile();
const otherKeys = new KeyFile();
after(() => {
  keys.remove();
  otherKeys.remove();
});

const encrypted = (memory: MemoryStore, file = keys) => new EncryptedStore(memory, file.path);
const plain = (memory: MemoryStore) => new EncryptedStore(memory, null);

async function uploaded(store: EncryptedStore, branch = "main"): Promise<RemoteTenant> {
  const tenant = await RemoteTenant.create(store);
  await grow(tenant, branch);
  return tenant;
}

async function grow(tenant: RemoteTenant, branch = "main"): Promise<void> {
  await tenant.write(branch, 20);
  await tenant.flush(branch);
  await tenant.write(branch, 5);
  await tenant.upload.uploadFiles();
  await tenant.upload.uploadWal();
}

const named = (memory: MemoryStore, part: string) =>
  [...memory.objects.keys()].filter((key) => key.includes(part)).sort();

const isSealed = (memory: MemoryStore, key: string) =>
  Buffer.from(memory.objects.get(key)!.subarray(0, 6)).toString() === "ZNSEAL";

describe("a tenant in an encrypted object store", () => {
  test("comes back, and only what says whose it is can be read by others", async () => {
    const memory = new MemoryStore();
    const tenant = await uploaded(encrypted(memory));
    for (const [key, body] of memory.objects) {
      assert.equal(isSealed(memory, key), !/\/(generation|key)\//.test(key), key);
      // The tests' records are runs of one byte.
      assert.ok(!Buffer.from(body).includes(new Uint8Array(20).fill(5)), key);
    }
    assert.equal(named(memory, "/key/").length, 1);
    const restored = await RemoteTenant.restore(encrypted(memory));
    assert.deepEqual(await restored.ends(), await tenant.ends());
  });

  test("can't be taken without its key, and the error says which is needed", async () => {
    const memory = new MemoryStore();
    await uploaded(encrypted(memory));
    const before = memory.objects.size;
    const { id } = keys.keys[0];
    for (
      const [store, why] of [
        [plain(memory), /no key is configured/],
        [encrypted(memory, otherKeys), new RegExp(`only ${otherKeys.keys[0].id}`)],
      ] as const
    ) {
      const isRefused = (error: Error & { kind?: string }) =>
        error.kind === "forbidden" && error.message.includes(`encrypted with key ${id}`) &&
        why.test(error.message);
      await assert.rejects(RemoteTenant.restore(store), isRefused);
      const next = new TenantKeys(TINY_TENANT).generation(2);
      await assert.rejects(store.putIfAbsent(next, new Uint8Array()), isRefused);
    }
    assert.equal(memory.objects.size, before, "nobody has taken it");
  });

  test("is encrypted from when there is a key, and what is from before can be read", async () => {
    const memory = new MemoryStore();
    const first = await uploaded(plain(memory));
    const before = new Set(memory.objects.keys());
    const second = await RemoteTenant.restore(encrypted(memory));
    assert.deepEqual(await second.ends(), await first.ends());
    await grow(second);
    const layers = named(memory, "/layers/");
    assert.ok(layers.some((key) => before.has(key)) && layers.some((key) => !before.has(key)));
    for (const key of memory.objects.keys()) {
      assert.equal(isSealed(memory, key), !before.has(key) && !/\/(generation|key)\//.test(key), key);
    }
    const third = await RemoteTenant.restore(encrypted(memory));
    assert.deepEqual(await third.ends(), await second.ends());
    // A page server that has lost it goes on without a key, and nothing of that counts.
    await first.write("main", 3);
    await assert.rejects(first.upload.uploadWal(), { kind: "conflict" });
    const fourth = await RemoteTenant.restore(encrypted(memory));
    assert.deepEqual(await fourth.ends(), await third.ends());
  });

  test("refuses plain objects, other objects' bytes, and other tenants' in the place of its own", async () => {
    const memory = new MemoryStore();
    await uploaded(encrypted(memory));
    const elsewhere = new MemoryStore();
    await uploaded(encrypted(elsewhere));
    const unencrypted = new MemoryStore();
    await uploaded(plain(unencrypted));
    const [manifest] = named(memory, "/manifest/").slice(-1);
    const [index] = named(memory, "/index-");
    for (
      const [what, key, bytes] of [
        ["a plain manifest", manifest!, unencrypted.objects.get(named(unencrypted, "/manifest/").at(-1)!)!],
        ["an index for a manifest", manifest!, memory.objects.get(named(memory, "/index-")[0]!)!],
        ["one of another tenant of that name", manifest!, elsewhere.objects.get(manifest!)!],
        ["a manifest for an index", index!, memory.objects.get(manifest!)!],
      ] as const
    ) {
      const copy = new MemoryStore();
      for (const [name, body] of memory.objects) copy.objects.set(name, body);
      copy.objects.set(key, bytes);
      await assert.rejects(RemoteTenant.restore(encrypted(copy)), { kind: "corrupt_data" }, what);
    }
    const key = named(memory, "/key/")[0]!;
    memory.objects.set(key, elsewhere.objects.get(key)!);
    await assert.rejects(
      RemoteTenant.restore(encrypted(memory)),
      { kind: "corrupt_data" },
      "another data key",
    );
  });

  test("gets its data key encrypted anew when keys rotate, and the old key opens nothing then", async () => {
    const memory = new MemoryStore();
    const file = new KeyFile();
    const [old] = file.keys;
    const tenant = await uploaded(encrypted(memory, file));
    file.keys = [generateStoreKey(), old];
    const bodies = new Map(memory.objects);
    assert.ok(await encrypted(memory, file).dataKeys.rewrap(TINY_TENANT));
    assert.ok(await encrypted(memory, file).dataKeys.rewrap(TINY_TENANT), "again it changes nothing");
    assert.deepEqual(named(memory, "/key/").map((key) => key.slice(-8)), ["00000002"]);
    for (const [key, body] of memory.objects) if (!key.includes("/key/")) assert.equal(body, bodies.get(key));
    // The page server that runs goes on.
    await grow(tenant);
    const after = new KeyFile([file.keys[0]]);
    const before = new KeyFile([old]);
    await assert.rejects(RemoteTenant.restore(encrypted(memory, before)), { kind: "forbidden" });
    const restored = await RemoteTenant.restore(encrypted(memory, after));
    assert.deepEqual(await restored.ends(), await tenant.ends());
    for (const used of [file, after, before]) used.remove();
  });

  test("that is deleted is lost with its key, also for who has a copy of its objects", async () => {
    for (let n = 0;; n++) {
      const memory = new MemoryStore();
      const tenant = await uploaded(encrypted(memory));
      const bury = (nowMs: number) =>
        buryTenant(encrypted(memory), TINY_TENANT, tenant.disk, TINY_PATHS, 1000, nowMs);
      memory.failAt(n, "gone");
      const ended = await bury(5000).then(() => true, () => false);
      memory.heal();
      if (!ended) await bury(5000);
      const records = named(memory, "/key/");
      assert.equal(records.length, 1);
      assert.match(new TextDecoder().decode(memory.objects.get(records[0]!)), /\ndestroyed 1970/);
      const isDeleted = { kind: "not_found", message: /was deleted/ };
      await assert.rejects(RemoteTenant.restore(encrypted(memory)), isDeleted);
      const layer = named(memory, "/layers/")[0]!;
      await assert.rejects(encrypted(memory).get(layer), { kind: "not_found", message: /its key destroyed/ });
      assert.ok((await readCurrentManifest(plain(memory), TINY_TENANT))!.isDeleted);
      assert.equal(await bury(5999), false);
      assert.equal(await bury(6001), true);
      assert.deepEqual(named(memory, "/layers/"), []);
      if (ended) return;
    }
  });

  test("of that name may be made anew, with another key", async () => {
    const memory = new MemoryStore();
    const tenant = await uploaded(encrypted(memory));
    const gone = named(memory, "/layers/")[0]!;
    await buryTenant(encrypted(memory), TINY_TENANT, tenant.disk, TINY_PATHS, 0, 5000);
    await tenant.restart();
    await grow(tenant);
    assert.equal(named(memory, "/key/").length, 1);
    const restored = await RemoteTenant.restore(encrypted(memory));
    assert.deepEqual(await restored.ends(), await tenant.ends());
    assert.ok(isSealed(memory, gone), "what is left of the one before");
  });
});

describe("an encrypted object store", () => {
  test("keeps what is of no tenant as it is", async () => {
    const memory = new MemoryStore();
    const store = encrypted(memory);
    await store.put("probe/a", Uint8Array.of(1));
    await store.putIfAbsent("probe/b", Uint8Array.of(2));
    assert.deepEqual([...memory.objects.values()], [Uint8Array.of(1), Uint8Array.of(2)]);
    assert.deepEqual(await store.get("probe/a"), Uint8Array.of(1));
  });

  test("gives two page servers that begin at once the same data key, or stops the earlier one", async () => {
    for (let n = 0; n < 8; n++) {
      const memory = new MemoryStore();
      const tenant = parseTenantId("c".repeat(32));
      const generation = (g: number) => new TenantKeys(tenant).generation(g);
      const [one, two] = [encrypted(memory), encrypted(memory)];
      const begins = one.putIfAbsent(generation(1), Uint8Array.of(1));
      for (let turn = 0; turn < n; turn++) await Promise.resolve();
      while (!memory.objects.has(generation(1))) await Promise.resolve();
      await Promise.all([begins, two.putIfAbsent(generation(2), Uint8Array.of(2))]);
      const manifest = (g: number) => new TenantKeys(tenant).manifest({ generation: g, seq: 1 });
      const wrote = await one.putIfAbsent(manifest(1), Uint8Array.of(1)).then(
        () => true,
        (error: unknown) => {
          assert.equal((error as { kind: string }).kind, "conflict");
          return false;
        },
      );
      await two.putIfAbsent(manifest(2), Uint8Array.of(2));
      for (const g of wrote ? [1, 2] : [2]) {
        assert.ok(isSealed(memory, manifest(g)));
        assert.deepEqual(await encrypted(memory).get(manifest(g)), Uint8Array.of(g));
      }
    }
  });

  test("reads once more what came damaged, and says what is damaged there", async () => {
    const memory = new MemoryStore();
    const store = encrypted(memory);
    const keysOf = new TenantKeys(TINY_TENANT);
    await store.putIfAbsent(keysOf.generation(1), Uint8Array.of(1));
    const key = keysOf.manifest({ generation: 1, seq: 1 });
    await store.put(key, new Uint8Array(100));
    const sealed = memory.objects.get(key)!;
    const damaged = sealed.slice();
    damaged[60]! ^= 1;
    memory.objects.set(key, damaged);
    const requests = memory.requests;
    await assert.rejects(store.get(key), { kind: "corrupt_data", message: new RegExp(key) });
    assert.equal(memory.requests - requests, 3);
    const reading = store.get(key);
    await Promise.resolve();
    memory.objects.set(key, sealed);
    assert.deepEqual(await reading, new Uint8Array(100));
  });
});
