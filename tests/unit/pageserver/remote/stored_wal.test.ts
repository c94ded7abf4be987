import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import type { Lsn } from "../../../../src/common/lsn.ts";
import type { ObjectStore } from "../../../../src/object_store/object_store.ts";
import { EncryptedStore } from "../../../../src/pageserver/remote/encrypted_store.ts";
import { readStoredWal } from "../../../../src/pageserver/remote/stored_wal.ts";
import { KeyFile } from "../../../harness/key_file.ts";
import { MemoryStore } from "../../../harness/memory_store.ts";
import { RemoteTenant } from "../../../harness/remote_tenant.ts";
import { TINY_TENANT } from "../../../harness/tiny_page_server.ts";

const keys = new KeyFile();
after(() => keys.remove());

const DAY_MS = 86_400_000;

/** All WAL that a tenant's branch has ever had, as it was written. */
class Written {
  #start = 0;
  #bytes = Buffer.alloc(0);

  /** Notes what is there now. What was trimmed since must have been noted before. */
  async note(tenant: RemoteTenant): Promise<void> {
    const { start, bytes } = await tenant.walHere("main");
    if (this.#bytes.length === 0) this.#start = start;
    assert.ok(start <= this.end);
    this.#bytes = Buffer.concat([this.#bytes.subarray(0, start - this.#start), bytes]);
  }

  get start(): Lsn {
    return this.#start as Lsn;
  }

  get end(): Lsn {
    return (this.#start + this.#bytes.length) as Lsn;
  }

  from(start: Lsn, end: Lsn): Buffer {
    return this.#bytes.subarray(start - this.#start, end - this.#start);
  }
}

async function read(store: ObjectStore, tenant: RemoteTenant, from: Lsn, until: Lsn): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of readStoredWal(store, TINY_TENANT, await tenant.timelineOf("main"), from, until)) {
    parts.push(part);
  }
  return Buffer.concat(parts);
}

async function upload(tenant: RemoteTenant): Promise<void> {
  await tenant.upload.uploadFiles();
  await tenant.upload.uploadWal();
}

/** Writes some segments, puts them in layers, and uploads now and then. */
async function grow(tenant: RemoteTenant, written: Written, uploads = true): Promise<void> {
  for (let round = 0; round < 4; round++) {
    await tenant.write("main", 9, 70_000);
    await written.note(tenant);
    if (uploads && round % 2 === 0) await upload(tenant);
    await tenant.flush("main");
  }
  if (uploads) await upload(tenant);
}

describe("WAL in the object store", () => {
  test("is read back from where it began, also what is in layers and no longer here", async () => {
    const memory = new MemoryStore();
    const store = new EncryptedStore(memory, keys.path);
    const tenant = await RemoteTenant.create(store, 0, DAY_MS);
    const written = new Written();
    await grow(tenant, written);
    await tenant.restart();
    await grow(tenant, written);
    assert.ok((await tenant.walHere("main")).start > written.start, "some was trimmed here");
    const { start, end } = written;
    for (const [from, until] of [[start, end], [start + 1, end - 1], [start + 70_000, start + 70_008]]) {
      const [first, last] = [from as Lsn, until as Lsn];
      assert.ok(
        (await read(store, tenant, first, last)).equals(written.from(first, last)),
        `${from} ${until}`,
      );
    }
    await assert.rejects(read(store, tenant, start, (end + 1) as Lsn), { kind: "out_of_range" });
    await assert.rejects(read(store, tenant, (start - 1) as Lsn, end), { kind: "out_of_range" });
  });

  test("stays here until it is uploaded, and goes from the store when its time is over", async () => {
    const memory = new MemoryStore();
    const tenant = await RemoteTenant.create(memory, 0, 1000);
    const written = new Written();
    await upload(tenant);
    await grow(tenant, written, false);
    assert.equal((await tenant.walHere("main")).start, written.start, "the store does not have it");
    await upload(tenant);
    await grow(tenant, written);
    const { start, end } = written;
    assert.ok((await read(memory, tenant, start, end)).equals(written.from(start, end)));
    tenant.nowMs += 2000;
    await grow(tenant, written);
    const isGone = { kind: "out_of_range", message: /does not have WAL/, hint: /wal_retention_s/ };
    await assert.rejects(read(memory, tenant, start, end), isGone);
    const { start: here } = await tenant.walHere("main");
    assert.ok((await read(memory, tenant, here, end)).equals(written.from(here, end)));
  });

  test("is that of the page server which has the tenant, and not of one that has lost it", async () => {
    const memory = new MemoryStore();
    const first = await RemoteTenant.create(memory, Infinity, DAY_MS);
    const written = new Written();
    await grow(first, written);
    const second = await RemoteTenant.restore(memory);
    await first.write("main", 9, 50_000);
    await assert.rejects(upload(first), { kind: "conflict" });
    await grow(second, written);
    const { start, end } = written;
    assert.ok((await read(memory, second, start, end)).equals(written.from(start, end)));
  });

  test("is not fetched by a page server that takes the tenant over, however much is kept", async () => {
    const memory = new MemoryStore();
    const tenant = await RemoteTenant.create(memory, Infinity, DAY_MS);
    const written = new Written();
    await grow(tenant, written);
    // The first manifest of a generation may come while the timeline sleeps.
    await tenant.restart();
    await tenant.ends();
    await tenant.server.tenant(TINY_TENANT).timelines.closeIdle(-1, () => {});
    await tenant.upload.uploadFiles();
    const restored = await RemoteTenant.restore(memory);
    const { bytes } = await restored.walHere("main");
    assert.ok(bytes.length < 2 << 20, `${bytes.length} bytes of ${written.end - written.start} came`);
    assert.ok((await read(memory, restored, written.start, written.end)).length > bytes.length);
  });

  test("is not read where a part of it is missing", async () => {
    const memory = new MemoryStore();
    const tenant = await RemoteTenant.create(memory, Infinity, DAY_MS);
    const written = new Written();
    await grow(tenant, written);
    const pieces = [...memory.objects.keys()].filter((key) => key.includes("/wal/")).sort();
    memory.objects.delete(pieces[1]!);
    const { start, end } = written;
    await assert.rejects(read(memory, tenant, start, end), {
      kind: "out_of_range",
      message: /it has .* to .*, /,
    });
  });
});
