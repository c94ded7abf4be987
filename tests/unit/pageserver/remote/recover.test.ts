/** Tenants that go back and forth in time, while page servers that have lost them go on. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ZenithError } from "../../../../src/common/errors.ts";
import type { Lsn } from "../../../../src/common/lsn.ts";
import { readTenantAsOf } from "../../../../src/pageserver/remote/as_of.ts";
import { readStoredWal } from "../../../../src/pageserver/remote/stored_wal.ts";
import { MemoryStore } from "../../../harness/memory_store.ts";
import { EXHAUSTIVE, Random, seeds } from "../../../harness/random.ts";
import { type BranchEnds, RemoteTenant } from "../../../harness/remote_tenant.ts";
import { TINY_TENANT } from "../../../harness/tiny_page_server.ts";

const HISTORIES = EXHAUSTIVE ? 4 : 2;
const STEPS = 14;
const HOUR_MS = 3_600_000;
/** How long what nothing needs stays in the store. */
const DELAY_MS = 6 * HOUR_MS;

interface Past {
  readonly ms: number;
  readonly ends: BranchEnds;
}

async function everything({ upload }: RemoteTenant): Promise<void> {
  await upload.uploadFiles();
  await upload.uploadWal();
  await upload.uploadFiles();
}

function unless(kind: string): (error: unknown) => void {
  return (error) => {
    if (!(error instanceof ZenithError) || error.kind !== kind) throw error;
  };
}

/** Where each branch ends, and the last page of its WAL. */
function positions(ends: BranchEnds): unknown[] {
  return Array.from(ends, ([name, { position, wal }]) => [name, position, wal]).sort();
}

/** What a branch has of its WAL is the same in the store. */
async function assertStored(tenant: RemoteTenant, branch: string, what: string): Promise<void> {
  const { start, bytes } = await tenant.walHere(branch);
  const until = (start + bytes.length) as Lsn;
  const found: Uint8Array[] = [];
  if (bytes.length > 0) {
    const id = await tenant.timelineOf(branch);
    for await (const part of readStoredWal(tenant.store, TINY_TENANT, id, start, until)) found.push(part);
  }
  assert.ok(Buffer.concat(found).equals(bytes), `${what}: the WAL of ${branch}`);
}

class History {
  readonly store = new MemoryStore();
  readonly random: Random;
  readonly past: Past[] = [];
  /** Page servers that have lost the tenant, and don't know it. */
  readonly lost: RemoteTenant[] = [];
  tenant!: RemoteTenant;

  constructor(seed: number) {
    this.random = new Random(seed);
    this.store.nowMs = Date.UTC(2026, 0, 1);
  }

  async run(): Promise<void> {
    this.tenant = await RemoteTenant.create(this.store, DELAY_MS);
    for (let n = 0; n < STEPS; n++) {
      this.store.nowMs += HOUR_MS;
      this.tenant.nowMs = this.store.nowMs;
      await this.#step(n);
      this.tenant.nowMs = this.store.nowMs;
      await everything(this.tenant);
      this.past.push({ ms: this.store.nowMs + 1, ends: await this.tenant.ends() });
    }
  }

  /** Does something at random to the tenant. */
  async #step(n: number): Promise<void> {
    const { random, tenant, lost } = this;
    const branches = [...(await tenant.ends()).keys()];
    const branch = branches[random.int(branches.length)]!;
    switch (random.int(12)) {
      case 0:
        return await tenant.branch(`b${n}`, branch);
      case 1: {
        const leaf = branches.findLast((name) => name !== "main");
        // It may have branches of its own.
        if (leaf !== undefined) await tenant.deleteBranch(leaf).catch(unless("conflict"));
        return;
      }
      case 2:
        await tenant.flush(branch);
        return await tenant.merge(branch);
      case 3:
        return await tenant.restart();
      case 4:
        // More than a segment, which is gone from here before it is uploaded.
        await tenant.write(branch, 20, 70_000 + random.int(9_000));
        return await tenant.flush(branch);
      case 5:
      case 6:
      case 7: {
        const possible = this.past.filter(({ ms }) => this.store.nowMs - ms < DELAY_MS);
        if (possible.length === 0) return;
        return await this.#goBack(possible[random.int(possible.length)]!);
      }
      case 8:
        for (const other of lost) {
          await other.write("main", 1 + random.int(9), 100 + random.int(60_000));
          await other.upload.uploadWal().catch(unless("conflict"));
        }
        return;
      default:
        await tenant.write(branch, 1 + random.int(9), 100 + random.int(9_000));
    }
  }

  async #goBack({ ms, ends }: Past): Promise<void> {
    this.lost.push(this.tenant);
    this.tenant = await RemoteTenant.restore(this.store, {
      untilMs: ms,
      deletionMs: DELAY_MS,
      nowMs: this.store.nowMs,
    });
    assert.deepEqual(positions(await this.tenant.ends()), positions(ends), `back to ${ms}`);
  }

  async end(): Promise<void> {
    await Promise.all([this.tenant, ...this.lost].map((tenant) => tenant.close()));
  }
}

describe("a tenant as it was at a time", () => {
  test("comes back for as long as objects stay, and goes on from there", async () => {
    for (const seed of seeds(HISTORIES)) {
      const history = new History(seed);
      await history.run();
      const { store, past } = history;
      const now = await RemoteTenant.restore(store.clone());
      assert.deepEqual(positions(await now.ends()), positions(past.at(-1)!.ends), `seed ${seed}, as it is`);
      await now.close();
      for (const { ms, ends } of past) {
        const copy = store.clone();
        const what = `seed ${seed}, ${(store.nowMs - ms) / HOUR_MS} hours ago`;
        let found: RemoteTenant;
        try {
          found = await RemoteTenant.restore(copy, { untilMs: ms });
        } catch (error) {
          assert.equal((error as { kind?: string }).kind, "out_of_range", `${what}: ${error}`);
          assert.ok(store.nowMs - ms >= DELAY_MS, what);
          assert.equal(copy.objects.size, store.objects.size, "nobody has lost the tenant");
          continue;
        }
        assert.deepEqual(positions(await found.ends()), positions(ends), what);
        if (!history.random.oneIn(2)) {
          await found.close();
          continue;
        }
        copy.nowMs += HOUR_MS;
        // Where it goes on, there was other WAL before.
        await found.write("main", 3, 5_000);
        await everything(found);
        for (const branch of ends.keys()) await assertStored(found, branch, what);
        const again = await RemoteTenant.restore(copy.clone());
        assert.deepEqual(
          positions(await again.ends()),
          positions(await found.ends()),
          `${what}, and once more`,
        );
        await Promise.all([found.close(), again.close()]);
      }
      await history.end();
    }
  });

  test("goes forth again, without what was written in between", async () => {
    const store = new MemoryStore();
    store.nowMs = HOUR_MS;
    const first = await RemoteTenant.create(store);
    await first.write("main", 5, 1_000);
    await everything(first);
    const early = await first.ends();
    store.nowMs += HOUR_MS;
    await first.write("main", 9, 2_000);
    await everything(first);
    const late = await first.ends();
    const lateMs = store.nowMs;
    await first.close();
    store.nowMs += HOUR_MS;
    const second = await RemoteTenant.restore(store, { untilMs: HOUR_MS });
    assert.deepEqual(positions(await second.ends()), positions(early));
    await second.write("main", 2, 3_000);
    await everything(second);
    await second.close();
    store.nowMs += HOUR_MS;
    const third = await RemoteTenant.restore(store, { untilMs: lateMs });
    assert.deepEqual(positions(await third.ends()), positions(late));
    await everything(third);
    await third.close();
    // The next page server finds WAL of three generations.
    const fourth = await RemoteTenant.restore(store);
    assert.deepEqual(positions(await fourth.ends()), positions(late));
    await assertStored(fourth, "main", "in the end");
    await fourth.close();
  });

  test("gives up what came later, whose objects go after a while", async () => {
    const store = new MemoryStore();
    store.nowMs = HOUR_MS;
    const first = await RemoteTenant.create(store);
    await everything(first);
    const { branches } = await readTenantAsOf(store, TINY_TENANT, store.nowMs, store.nowMs);
    assert.deepEqual(branches.map(({ name, endLsn }) => [name, endLsn]), [
      ["main", (await first.ends()).get("main")!.position],
    ]);
    store.nowMs += HOUR_MS;
    await first.branch("later", "main");
    await first.write("later", 9, 20_000);
    await first.flush("later");
    await first.write("main", 9, 20_000);
    await everything(first);
    await first.close();
    const before = new Set(store.objects.keys());
    store.nowMs += HOUR_MS;
    const second = await RemoteTenant.restore(store, {
      untilMs: HOUR_MS,
      deletionMs: DELAY_MS,
      nowMs: store.nowMs,
    });
    await everything(second);
    const kept = [...before].filter((key) => !store.objects.has(key));
    assert.deepEqual(kept, [], "nothing is removed at once");
    second.nowMs += DELAY_MS + HOUR_MS;
    await second.write("main", 1);
    await everything(second);
    const left = [...before].filter((key) => store.objects.has(key) && !key.includes("/generation/"));
    const then = [...before].filter((key) => key.includes("/manifest/") || key.includes("/wal/"));
    assert.ok(left.every((key) => !then.includes(key)), `what came later is gone: ${left}`);
    await assert.rejects(RemoteTenant.restore(store, { untilMs: 2 * HOUR_MS }), {
      kind: "out_of_range",
      hint: /deletion_delay_s/,
    });
    const third = await RemoteTenant.restore(store);
    assert.deepEqual(positions(await third.ends()), positions(await second.ends()));
    await Promise.all([second.close(), third.close()]);
  });

  test("is an error when there was nothing yet", async () => {
    const store = new MemoryStore();
    store.nowMs = HOUR_MS;
    const tenant = await RemoteTenant.create(store);
    await everything(tenant);
    const early = RemoteTenant.restore(store, { untilMs: HOUR_MS - 1 });
    await assert.rejects(early, { kind: "out_of_range" });
    await tenant.close();
  });
});
