/**
 * Page servers that take a tenant over from each other while all of them go on, with their requests
 * to the store in any order.
 */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { ZenithError } from "../../../../src/common/errors.ts";
import { EncryptedStore } from "../../../../src/pageserver/remote/encrypted_store.ts";
import { KeyFile } from "../../../harness/key_file.ts";
import { MemoryStore } from "../../../harness/memory_store.ts";
import type { ObjectStore } from "../../../../src/object_store/object_store.ts";
import { EXHAUSTIVE, Random, seeds } from "../../../harness/random.ts";
import { RemoteTenant } from "../../../harness/remote_tenant.ts";
import { ScheduledStore } from "../../../harness/scheduled_store.ts";

const HISTORIES = EXHAUSTIVE ? 75 : 30;
const STEPS = 8;
/** In turns of the event loop, of which a request takes a few. */
const LATEST_TAKEOVER = 40;

/** What all page servers but the last must find out. */
function isTakenOver(error: unknown): boolean {
  return error instanceof ZenithError && error.kind === "conflict";
}

/** Writes, flushes and uploads at random until the steps are over or the tenant is lost. */
async function live(tenant: RemoteTenant, random: Random): Promise<void> {
  try {
    for (let step = 0; step < STEPS; step++) {
      const chosen = random.int(5);
      if (chosen === 0) await tenant.flush("main");
      else if (chosen <= 2) await tenant.upload.uploadFiles();
      else {
        await tenant.write("main", 1 + random.int(3), 50 + random.int(5000));
        await tenant.upload.uploadWal();
      }
    }
  } catch (error) {
    if (!isTakenOver(error)) throw error;
  }
}

const keys = new KeyFile();
after(() => keys.remove());

/** What page servers see. Each may have begun to encrypt at its own time, but none ends it. */
type Views = () => ObjectStore;

async function takeOver(open: Views, random: Random): Promise<RemoteTenant> {
  for (let turns = random.int(LATEST_TAKEOVER); turns > 0; turns--) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  return await RemoteTenant.restore(open());
}

describe("page servers that take a tenant over from each other", () => {
  test("never lose what was reported, whatever the order of their requests", async () => {
    let goneOn = 0;
    for (const seed of seeds(HISTORIES)) {
      const random = new Random(seed);
      const store = new ScheduledStore(new MemoryStore(), random);
      // The first of them that has a key.
      const encrypting = random.int(6);
      let opened = 0;
      const open = () => opened++ < encrypting ? store : new EncryptedStore(store, keys.path);
      const owners = [await RemoteTenant.create(open())];
      await store.run([owners[0]!.upload.uploadFiles()]);
      while (owners.length < 3) {
        const before = owners.at(-1)!;
        const taking = takeOver(open, random).then(async (tenant) => ({
          tenant,
          history: await tenant.history("main"),
        }));
        await store.run([taking, ...owners.map((owner) => live(owner, random))]);
        const { tenant, history } = await taking;
        const theirs = await before.history("main");
        const reported = await before.reported("main");
        const what = `seed ${seed}, owner ${owners.length}`;
        assert.ok(history.end >= reported, `${what}: ${history.end}, but ${reported} was reported`);
        assert.deepEqual(history.upTo(reported), theirs.upTo(reported), what);
        if (theirs.end > history.end) goneOn++;
        owners.push(tenant);
      }
      const last = owners.at(-1)!;
      await store.run(owners.map((owner) => live(owner, random)));
      await store.run([last.upload.uploadFiles().then(() => last.upload.uploadWal())]);
      const restoring = RemoteTenant.restore(open());
      await store.run([restoring]);
      const restored = await restoring;
      const endings = Promise.all([restored.ends(), last.ends()]);
      await store.run([endings]);
      const [found, expected] = await endings;
      assert.deepEqual(found, expected, `seed ${seed}`);
      for (const owner of owners) {
        await owner.write("main", 1);
        const uploads = owner.upload.uploadFiles().then(() => owner.upload.uploadWal());
        await assert.rejects(store.run([uploads]), isTakenOver);
      }
      const closing = Promise.all([restored, ...owners].map((owner) => owner.close()));
      await store.run([closing]);
    }
    assert.ok(goneOn > 0, "some page server goes on after it has lost its tenant");
  });
});
