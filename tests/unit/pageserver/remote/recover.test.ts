import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { MemoryStore } from "../../../harness/memory_store.ts";
import { EXHAUSTIVE, Random, seeds } from "../../../harness/random.ts";
import { type BranchEnds, RemoteTenant } from "../../../harness/remote_tenant.ts";

const HISTORIES = EXHAUSTIVE ? 40 : 4;
const STEPS = 14;
const HOUR_MS = 3_600_000;
/** How long what nothing needs stays in the store. */
const DELAY_MS = 6 * HOUR_MS;

interface Past {
  readonly ms: number;
  readonly ends: BranchEnds;
}

async function everything(tenant: RemoteTenant): Promise<void> {
  await tenant.upload.uploadFiles();
  await tenant.upload.uploadWal();
  await tenant.upload.uploadFiles();
}

/** Does something at random to the tenant. */
async function step(tenant: RemoteTenant, random: Random, n: number): Promise<void> {
  const branches = [...(await tenant.ends()).keys()];
  const branch = branches[random.int(branches.length)]!;
  switch (random.int(7)) {
    case 0:
      await tenant.branch(`b${n}`, branch);
      return;
    case 1: {
      const leaf = branches.findLast((name) => name !== "main");
      if (leaf !== undefined) await tenant.deleteBranch(leaf).catch(() => {});
      return;
    }
    case 2:
      await tenant.flush(branch);
      await tenant.merge(branch);
      return;
    case 3:
      await tenant.restart();
      return;
    default:
      await tenant.write(branch, 1 + random.int(9), 100 + random.int(9_000));
  }
}

describe("a tenant as it was at a time", () => {
  test("comes back for as long as objects stay, and goes on from there", async () => {
    let tooOld = 0;
    for (const seed of seeds(HISTORIES)) {
      const random = new Random(seed);
      const store = new MemoryStore();
      store.nowMs = Date.UTC(2026, 0, 1);
      const tenant = await RemoteTenant.create(store, DELAY_MS);
      const past: Past[] = [];
      for (let n = 0; n < STEPS; n++) {
        tenant.nowMs = store.nowMs += HOUR_MS;
        await step(tenant, random, n);
        await everything(tenant);
        past.push({ ms: store.nowMs + 1, ends: await tenant.ends() });
      }
      for (const { ms, ends } of past) {
        const copy = store.clone();
        const what = `seed ${seed}, ${(store.nowMs - ms) / HOUR_MS} hours ago`;
        let found: RemoteTenant;
        try {
          found = await RemoteTenant.restore(copy, ms);
        } catch (error) {
          assert.equal((error as { kind?: string }).kind, "out_of_range", `${what}: ${error}`);
          assert.ok(store.nowMs - ms >= DELAY_MS, what);
          assert.equal(copy.objects.size, store.objects.size, "nobody has lost the tenant");
          tooOld++;
          continue;
        }
        assert.deepEqual(positions(await found.ends()), positions(ends), what);
        copy.nowMs += HOUR_MS;
        // Where it goes on, there was other WAL before.
        await found.write("main", 3, 5_000);
        await everything(found);
        const again = await RemoteTenant.restore(copy.clone());
        assert.deepEqual(await again.ends(), await found.ends(), `${what}, and once more`);
        await Promise.all([found.close(), again.close()]);
      }
      await tenant.close();
    }
    assert.ok(tooOld > 0, "some of it is too long ago");
  });

  test("is an error when there was nothing yet", async () => {
    const store = new MemoryStore();
    store.nowMs = HOUR_MS;
    const tenant = await RemoteTenant.create(store);
    await everything(tenant);
    await assert.rejects(RemoteTenant.restore(store, HOUR_MS - 1), { kind: "out_of_range" });
    await tenant.close();
  });
});

/** Where each branch ends, and the last page of its WAL. */
function positions(ends: BranchEnds): unknown[] {
  return Array.from(ends, ([name, { position, wal }]) => [name, position, wal]).sort();
}
