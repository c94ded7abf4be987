import assert from "node:assert/strict";
import { dirname } from "node:path";
import { after, describe, test } from "node:test";
import { replaceFileSync } from "../../../../src/common/disk.ts";
import { metadataPath } from "../../../../src/pagestore/mod.ts";
import type { ObjectStore } from "../../../../src/object_store/object_store.ts";
import { RetryingStore } from "../../../../src/object_store/retrying.ts";
import { EncryptedStore } from "../../../../src/pageserver/remote/encrypted_store.ts";
import { KeyFile } from "../../../harness/key_file.ts";
import { MemoryStore, type StoreFault } from "../../../harness/memory_store.ts";
import { RemoteTenant } from "../../../harness/remote_tenant.ts";
import { TINY_PATHS, TINY_TENANT } from "../../../harness/tiny_page_server.ts";

interface Stores {
  readonly memory: MemoryStore;
  readonly store: ObjectStore;
}

function stores(attempts = 1): Stores {
  const memory = new MemoryStore();
  return { memory, store: new RetryingStore(memory, { attempts, firstWaitMs: 1 }) };
}

const keys = new KeyFile();
after(() => keys.remove());

const PLAIN = "a plain object store";

/** Every page server has a store of its own to the same objects, and knows a key or none. */
const WAYS: readonly (readonly [name: string, open: (store: ObjectStore) => ObjectStore])[] = [
  [PLAIN, (store) => store],
  ["an encrypted object store", (store) => new EncryptedStore(store, keys.path)],
];

async function everything(tenant: RemoteTenant): Promise<void> {
  await tenant.upload.uploadFiles();
  await tenant.upload.uploadWal();
  // What has changed during the first call.
  await tenant.upload.uploadFiles();
}

describe("a tenant in the object store", () => {
  test("comes back with its branches, files, history and WAL", async () => {
    const { store } = stores();
    const tenant = await RemoteTenant.create(store);
    await tenant.write("main", 20);
    await tenant.flush("main");
    await tenant.branch("child", "main");
    await tenant.write("child", 3);
    await tenant.branch("empty", "child");
    await tenant.write("main", 5);
    await everything(tenant);
    const restored = await RemoteTenant.restore(store);
    assert.deepEqual(await restored.ends(), await tenant.ends());
    assert.deepEqual(restored.smallFiles(), tenant.smallFiles());
    await restored.write("child", 2);
    await restored.write("main", 2);
  });

  test("reports WAL as safe once it is there, and not before", async () => {
    const { store } = stores();
    const tenant = await RemoteTenant.create(store);
    await tenant.write("main", 3);
    assert.equal(await tenant.reported("main"), 0);
    await everything(tenant);
    const first = (await tenant.ends()).get("main")!.position;
    assert.equal(await tenant.reported("main"), first);
    await tenant.write("main", 3);
    assert.equal(await tenant.reported("main"), first);
    await tenant.upload.uploadWal();
    assert.equal(await tenant.reported("main"), (await tenant.ends()).get("main")!.position);
  });

  test("reports nothing before a manifest says that the timeline is there", async () => {
    for (let n = 0;; n++) {
      const { memory, store } = stores();
      const tenant = await RemoteTenant.create(store);
      await tenant.write("main", 3);
      memory.failAt(n, "throttled");
      await tenant.upload.uploadFiles().catch(() => {});
      memory.heal();
      await tenant.upload.uploadWal();
      const isThere = [...memory.objects.keys()].some((key) => key.includes("/manifest/"));
      assert.equal(await tenant.reported("main") > 0, isThere, `request ${n} failed`);
      if (isThere) return;
    }
  });

  test("has no WAL where it has none: a segment that came only in part is left out", async () => {
    const { store } = stores();
    const tenant = await RemoteTenant.create(store);
    // Pieces that end within segments.
    for (let round = 0; round < 4; round++) {
      await tenant.write("main", 9, 70_000);
      await everything(tenant);
    }
    const written = await tenant.walHere("main");
    await tenant.flush("main");
    await everything(tenant);
    const restored = await (await RemoteTenant.restore(store)).walHere("main");
    assert.ok(restored.start > written.start, "the first segment is in layers");
    const from = restored.start - written.start;
    assert.ok(Buffer.from(restored.bytes).equals(written.bytes.subarray(from)));
  });

  test("has the WAL of timelines that nobody has opened since the store is there", async () => {
    const { store } = stores();
    const tenant = await RemoteTenant.create(store);
    await tenant.write("main", 20);
    await tenant.branch("child", "main");
    await tenant.write("child", 4);
    await tenant.restart();
    await everything(tenant);
    const restored = await RemoteTenant.restore(store);
    assert.deepEqual(await restored.ends(), await tenant.ends());
    await restored.write("child", 4);
  });

  test("goes on when one of its timelines is damaged, and keeps what is there of that one", async () => {
    const { memory, store } = stores();
    const tenant = await RemoteTenant.create(store);
    await tenant.branch("child", "main");
    await tenant.write("child", 3);
    await tenant.flush("child");
    await everything(tenant);
    const child = (await tenant.ends()).get("child");
    const path = metadataPath(TINY_PATHS.timeline(TINY_TENANT, await tenant.timelineOf("child")));
    await tenant.restart(() => {
      const bytes = tenant.disk.readFileSync(path).slice();
      bytes[40]! ^= 1;
      replaceFileSync(tenant.disk, dirname(path), path, bytes);
    });
    await tenant.write("main", 3);
    await everything(tenant);
    assert.equal(tenant.upload.status().error, null);
    const requests = memory.requests;
    await everything(tenant);
    assert.equal(memory.requests, requests);
    const restored = await (await RemoteTenant.restore(store)).ends();
    assert.deepEqual(restored.get("child"), child);
    assert.equal(restored.size, 2);
  });

  test("asks the store for nothing while nothing changes", async () => {
    const { memory, store } = stores();
    const tenant = await RemoteTenant.create(store);
    await tenant.write("main", 3);
    await everything(tenant);
    const before = memory.requests;
    await everything(tenant);
    assert.equal(memory.requests, before);
    assert.equal(tenant.upload.status().pendingSinceMs, null);
  });

  test("goes on after a restart without uploading again what is there", async () => {
    const { memory, store } = stores();
    const tenant = await RemoteTenant.create(store);
    await tenant.write("main", 20);
    await tenant.flush("main");
    await everything(tenant);
    const layers = () => [...memory.objects.keys()].filter((key) => key.includes("/layers/"));
    const before = layers();
    await tenant.restart();
    await everything(tenant);
    assert.deepEqual(layers(), before);
    assert.equal(tenant.upload.status().generation, 2);
    await tenant.write("main", 20);
    await tenant.flush("main");
    await everything(tenant);
    assert.deepEqual(layers().slice(0, -1), before);
    const restored = await RemoteTenant.restore(store);
    assert.deepEqual(await restored.ends(), await tenant.ends());
  });

  test("gives up nothing before the deletion delay is over, and then what nothing names", async () => {
    const { memory, store } = stores();
    const tenant = await RemoteTenant.create(store, 1000);
    for (let i = 0; i < 9; i++) {
      await tenant.write("main", 4);
      await tenant.flush("main");
      await everything(tenant);
    }
    await tenant.merge("main");
    await tenant.branch("gone", "main");
    await tenant.write("gone", 4);
    await everything(tenant);
    await tenant.deleteBranch("gone");
    await everything(tenant);
    const all = memory.objects.size;
    await everything(tenant);
    assert.equal(memory.objects.size, all);
    tenant.nowMs += 2000;
    await everything(tenant);
    assert.ok(memory.objects.size < all / 2, `${memory.objects.size} objects of ${all} are left`);
    assert.equal([...memory.objects.keys()].filter((key) => key.includes("/manifest/")).length, 1);
    const restored = await RemoteTenant.restore(store);
    assert.deepEqual(await restored.ends(), await tenant.ends());
  });

  test("keeps in the store what is missing here and was not deleted", async () => {
    const { store } = stores();
    const tenant = await RemoteTenant.create(store);
    await tenant.branch("lost", "main");
    await tenant.write("lost", 3);
    await tenant.flush("lost");
    await everything(tenant);
    await tenant.deleteBranch("lost");
    tenant.deleted.clear();
    await everything(tenant);
    const restored = await RemoteTenant.restore(store);
    const { branches, damaged } = await restored.server.tenant(TINY_TENANT).branches.survey();
    assert.deepEqual([branches.length, damaged.length], [1, 1]);
    assert.match(damaged[0]!.damage.what, /no branch/);
  });
});

for (const [way, open] of WAYS) {
  describe(`two page servers, one tenant and ${way}`, () => {
    test("the one before notices it, uploads nothing more, and nothing that it has uploaded counts", async () => {
      const { memory, store } = stores();
      const before = await RemoteTenant.create(open(store));
      await before.write("main", 5);
      await everything(before);
      const at = await before.ends();
      const after = await RemoteTenant.restore(open(store));
      await before.write("main", 5);
      await assert.rejects(before.upload.uploadWal(), { kind: "conflict", message: /another page server/ });
      assert.equal(await before.reported("main"), at.get("main")!.position);
      const requests = memory.requests;
      await assert.rejects(before.upload.uploadFiles(), { kind: "conflict" });
      assert.equal(memory.requests, requests);

      const third = await RemoteTenant.restore(open(store));
      assert.deepEqual(await third.ends(), at);
      await assert.rejects(after.upload.uploadFiles(), { kind: "conflict" });
      await third.write("main", 2);
      await everything(third);
      const fourth = await RemoteTenant.restore(open(store));
      assert.deepEqual(await fourth.ends(), await third.ends());
    });

    test("a disk that was copied, and one that is put back, upload nothing", async () => {
      const { store } = stores();
      const tenant = await RemoteTenant.create(open(store));
      await everything(tenant);
      const taken = await RemoteTenant.restore(open(store));
      await everything(taken);
      await tenant.restart();
      await assert.rejects(tenant.upload.uploadFiles(), { kind: "conflict", message: /old copy/ });
    });
  });
}

/** What happens to a tenant, with uploads between. */
const HISTORY: readonly ((tenant: RemoteTenant) => Promise<void>)[] = [
  (tenant) => tenant.upload.uploadFiles(),
  (tenant) => tenant.write("main", 6),
  (tenant) => tenant.upload.uploadWal(),
  (tenant) => tenant.flush("main"),
  (tenant) => tenant.write("main", 2),
  (tenant) => tenant.branch("child", "main"),
  (tenant) => tenant.write("child", 3),
  (tenant) => tenant.upload.uploadFiles(),
  (tenant) => tenant.write("child", 3),
  (tenant) => tenant.upload.uploadWal(),
  (tenant) => tenant.write("main", 3),
  (tenant) => tenant.flush("main"),
  (tenant) => tenant.upload.uploadFiles(),
];

/** Lives through the history. An upload that fails is not repeated at once. @returns whether one did */
async function live(tenant: RemoteTenant): Promise<boolean> {
  let failed = false;
  for (const step of HISTORY) {
    try {
      await step(tenant);
    } catch (error) {
      if (!/the store is|answer was lost/.test(String(error))) throw error;
      failed = true;
    }
  }
  return failed;
}

for (const [way, open] of WAYS) {
  describe(`${way} that fails at any of its operations`, () => {
    for (const fault of ["throttled", "lostAnswer", "gone"] as const satisfies StoreFault[]) {
      for (const restarts of way === PLAIN ? [false, true] : [true]) {
        const then = restarts ? "restarts" : "goes on";
        test(`(${fault}) loses nothing that was reported, and all is there when the page server ${then}`, async () => {
          for (let n = 0;; n++) {
            const { memory, store } = stores();
            const tenant = await RemoteTenant.create(open(store));
            memory.failAt(n, fault);
            const failed = await live(tenant);
            memory.heal();
            const reported = new Map<string, number>();
            for (const branch of (await tenant.ends()).keys()) {
              reported.set(branch, await tenant.reported(branch));
            }
            // Only a copy: a restore ends the generation.
            const copy = new MemoryStore();
            for (const [key, body] of memory.objects) copy.objects.set(key, body);
            if ([...copy.objects.keys()].some((key) => key.includes("/manifest/"))) {
              const early = await (await RemoteTenant.restore(open(new RetryingStore(copy)))).ends();
              for (const [branch, lsn] of reported) {
                assert.ok((early.get(branch)?.position ?? 0) >= lsn, `${branch} after ${n} requests`);
              }
            } else assert.ok([...reported.values()].every((lsn) => lsn === 0));
            if (restarts) await tenant.restart();
            await everything(tenant);
            // A timeline that is opened only now hears of what is there, too.
            const ends = await tenant.ends();
            await tenant.upload.uploadWal();
            for (const [branch, { position }] of ends) {
              assert.equal(await tenant.reported(branch), position, `${branch} after ${n} requests`);
            }
            assert.equal(tenant.upload.status().pendingSinceMs, null);
            const restored = await RemoteTenant.restore(open(store));
            assert.deepEqual(await restored.ends(), ends, `after ${n} requests`);
            if (!failed) {
              assert.ok(n > 20, `the history makes ${n} requests`);
              return;
            }
          }
        });
      }
    }

    if (way === PLAIN) {
      test("throttles and loses answers, and retries hide it", async () => {
        for (const fault of ["throttled", "lostAnswer"] as const) {
          for (let n = 0; n < 40; n++) {
            const { memory, store } = stores(3);
            const tenant = await RemoteTenant.create(open(store));
            memory.failAt(n, fault);
            assert.equal(await live(tenant), false, `${fault} at request ${n}`);
          }
        }
      });
    }
  });
}
