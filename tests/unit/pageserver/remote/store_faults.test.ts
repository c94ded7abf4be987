/**
 * A store that fails at any request of what is done to a tenant as a whole: taking it over, going
 * back in time, burying it, and removing what nothing needs. Repeating it has to be enough.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { buryTenant } from "../../../../src/pageserver/remote/bury.ts";
import { EncryptedStore } from "../../../../src/pageserver/remote/encrypted_store.ts";
import { MemoryStore, type StoreFault, type StoreRequest } from "../../../harness/memory_store.ts";
import { type BranchEnds, RemoteTenant } from "../../../harness/remote_tenant.ts";
import { TINY_PATHS, TINY_TENANT } from "../../../harness/tiny_page_server.ts";

const FAULTS = ["throttled", "lostAnswer", "gone"] as const satisfies StoreFault[];
const HOUR_MS = 3_600_000;

async function everything({ upload }: RemoteTenant): Promise<void> {
  await upload.uploadFiles();
  await upload.uploadWal();
  await upload.uploadFiles();
}

interface Work {
  readonly store: MemoryStore;
  /** What is to succeed in the end. */
  readonly run: () => Promise<void>;
  /** After each failure, and in the end. */
  readonly check: () => Promise<void>;
}

/** Fails each request of some work in each way, and repeats the work. @returns what was requested */
async function failEach(
  begin: () => Promise<Work>,
  fails: (request: StoreRequest) => boolean = () => true,
): Promise<Set<StoreRequest>> {
  const plain = await begin();
  const before = plain.store.asked.length;
  await plain.run();
  await plain.check();
  const asked = plain.store.asked.slice(before);
  let failures = 0;
  for (const fault of FAULTS) {
    for (const [n, request] of asked.entries()) {
      if (!fails(request)) continue;
      const { store, run, check } = await begin();
      store.failAt(n, fault);
      // What is read ahead is read again.
      const failed = await run().then(() => false, (error: unknown) => {
        assert.match(String(error), /the store is|answer was lost/, `${fault} at ${request}, request ${n}`);
        return true;
      });
      store.heal();
      if (failed) await run();
      failures += failed ? 1 : 0;
      await check();
    }
  }
  assert.ok(failures > 0);
  return new Set(asked);
}

/** A tenant in a store, with all kinds of objects, as it is now and as it was an hour ago. */
async function uploaded(): Promise<{ store: MemoryStore; then: BranchEnds; now: BranchEnds }> {
  const store = new MemoryStore();
  store.nowMs = HOUR_MS;
  const tenant = await RemoteTenant.create(store);
  await tenant.write("main", 6);
  await tenant.branch("child", "main");
  await tenant.flush("main");
  await tenant.write("main", 2);
  await everything(tenant);
  const then = await tenant.ends();
  store.nowMs += HOUR_MS;
  await tenant.write("child", 3);
  await tenant.deleteBranch("child");
  await tenant.write("main", 9);
  await everything(tenant);
  const now = await tenant.ends();
  await tenant.close();
  return { store, then, now };
}

describe("a store that fails at any request", () => {
  for (const [what, untilMs] of [["takes a tenant over", undefined], ["goes back", HOUR_MS]] as const) {
    test(`of a page server that ${what} lets it do so the next time`, async () => {
      const { store: original, then, now } = await uploaded();
      const expected = untilMs === undefined ? now : then;
      const asked = await failEach(() => {
        const store = original.clone();
        store.nowMs = 3 * HOUR_MS;
        return Promise.resolve({
          store,
          run: async () => {
            const tenant = await RemoteTenant.restore(store, untilMs === undefined ? {} : { untilMs });
            assert.deepEqual(await tenant.ends(), expected);
            await tenant.close();
          },
          check: async () => {
            const tenant = await RemoteTenant.restore(store.clone());
            assert.deepEqual(await tenant.ends(), expected);
            await tenant.close();
          },
        });
      });
      assert.deepEqual([...asked].sort(), ["get", "list", "putIfAbsent"]);
    });
  }

  test("of a burial lets the next one remove everything but the generations", async () => {
    const asked = await failEach(async () => {
      const store = new MemoryStore();
      const tenant = await RemoteTenant.create(store);
      await tenant.write("main", 6);
      await tenant.flush("main");
      await everything(tenant);
      await tenant.close();
      const bury = () =>
        buryTenant(new EncryptedStore(store, null), TINY_TENANT, tenant.disk, TINY_PATHS, 0, HOUR_MS);
      return {
        store,
        run: async () => {
          while (!await bury());
        },
        check: () => {
          const left = [...store.objects.keys()];
          assert.ok(
            left.length > 0 && left.every((key) => /\/generation\/|\/manifest\//.test(key)),
            `${left}`,
          );
          return Promise.resolve();
        },
      };
    });
    assert.ok(asked.has("deleteMany"));
  });

  test("while it removes what nothing needs removes nothing else, and that the next time", async () => {
    await failEach(async () => {
      const store = new MemoryStore();
      const tenant = await RemoteTenant.create(store, 0);
      await tenant.write("main", 6);
      await tenant.branch("child", "main");
      await everything(tenant);
      await tenant.write("child", 3);
      await tenant.flush("child");
      await everything(tenant);
      await tenant.deleteBranch("child");
      await tenant.write("main", 6);
      return {
        store,
        run: async () => {
          await tenant.flush("main");
          tenant.nowMs += HOUR_MS;
          await everything(tenant);
        },
        check: async () => {
          const restored = await RemoteTenant.restore(store.clone());
          assert.deepEqual(await restored.ends(), await tenant.ends());
          await restored.close();
        },
      };
    }, (request) => request === "deleteMany");
  });
});
