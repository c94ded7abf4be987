import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parse } from "valibot";
import { PageServerConfigSchema } from "../../../../src/common/page_server_config.ts";
import { sleep } from "../../../../src/common/sleep.ts";
import { RetryingStore } from "../../../../src/object_store/retrying.ts";
import type { PageServer } from "../../../../src/pageserver/service/page_server.ts";
import { MemoryStore } from "../../../harness/memory_store.ts";
import {
  mainTimeline,
  openTinyPageServer,
  TINY_PATHS,
  TINY_TENANT,
  tinyDisk,
  walAfter,
} from "../../../harness/tiny_page_server.ts";

const XLOG_NOOP = 0x20;
const CONFIG = parse(PageServerConfigSchema, { object_store: "memory:", wal_upload_interval_ms: 100 });

async function open(memory: MemoryStore, disk = tinyDisk()): Promise<PageServer> {
  return await openTinyPageServer(disk, CONFIG, undefined, new RetryingStore(memory, { firstWaitMs: 1 }));
}

async function write(server: PageServer): Promise<number> {
  const timeline = await mainTimeline(server);
  const wal = walAfter(timeline);
  const from = await timeline.restartReceiving();
  wal.record({ info: XLOG_NOOP, main: new Uint8Array(200) });
  await timeline.receive(from, wal.bytes.slice(from - wal.from));
  await timeline.makeDurable();
  return timeline.position;
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(10);
}

async function untilUploaded(server: PageServer): Promise<void> {
  await until(() => server.objectStoreStatus()!.tenants[0]?.pending_since === null);
}

describe("a tenant that moves between page servers", () => {
  test("is uploaded to its end, gone where it was, and goes on where it is attached", async () => {
    const memory = new MemoryStore();
    const disk = tinyDisk();
    const here = await open(memory, disk);
    await here.createTenant(TINY_TENANT);
    await untilUploaded(here);
    const position = await write(here);
    await here.detachTenant(TINY_TENANT);
    assert.deepEqual(here.tenants(), []);
    assert.throws(() => here.tenant(TINY_TENANT), { kind: "not_found" });
    for (const path of [TINY_PATHS.tenant(TINY_TENANT), TINY_PATHS.attachment(TINY_TENANT)]) {
      assert.equal(disk.statSync(path), null, path);
    }

    const there = await open(memory);
    await there.attachTenant(TINY_TENANT);
    assert.equal((await mainTimeline(there)).position, position);
    await assert.rejects(there.attachTenant(TINY_TENANT), { kind: "already_exists" });
    const later = await write(there);
    await untilUploaded(there);
    await here.close();

    // Its deletion is not to be confused with its departure.
    const again = await open(memory, disk);
    await again.attachTenant(TINY_TENANT);
    assert.equal((await mainTimeline(again)).position, later);
    await again.close();
    await there.close();
  });

  test("is refused where it was taken from, and what is left there can be removed", async () => {
    const memory = new MemoryStore();
    const before = await open(memory);
    await before.createTenant(TINY_TENANT);
    await untilUploaded(before);
    const after = await open(memory);
    await after.attachTenant(TINY_TENANT);
    // It may have noticed already.
    await write(before).catch((error: unknown) => assert.match(String(error), /another page server/));
    await until(() => before.objectStoreStatus()!.tenants[0]!.taken_over);
    assert.throws(() => before.tenant(TINY_TENANT), { kind: "conflict", message: /another page server/ });
    await before.detachTenant(TINY_TENANT);
    assert.deepEqual(before.tenants(), []);
    const position = await write(after);
    await untilUploaded(after);
    await before.attachTenant(TINY_TENANT);
    assert.equal((await mainTimeline(before)).position, position);
    await before.close();
    await after.close();
  });

  test("stays where it is while it can't be uploaded", async () => {
    const memory = new MemoryStore();
    const server = await open(memory);
    await server.createTenant(TINY_TENANT);
    await untilUploaded(server);
    const position = await write(server);
    memory.failAt(0, "gone");
    await assert.rejects(server.detachTenant(TINY_TENANT), { kind: "unavailable" });
    assert.equal((await mainTimeline(server)).position, position);
    memory.heal();
    await server.close();
  });

  test("needs an object store, and to be there", async () => {
    const without = await openTinyPageServer(tinyDisk());
    await assert.rejects(without.attachTenant(TINY_TENANT), { kind: "invalid_argument" });
    await assert.rejects(without.detachTenant(TINY_TENANT), { kind: "invalid_argument" });
    await without.close();
    const empty = await open(new MemoryStore());
    await assert.rejects(empty.attachTenant(TINY_TENANT), { kind: "not_found" });
    await assert.rejects(empty.detachTenant(TINY_TENANT), { kind: "not_found" });
    await empty.close();
  });
});
