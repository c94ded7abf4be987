/** Layers that are read from the object store by chunk, as they are needed. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import { ZenithError } from "../../../../src/common/errors.ts";
import { parseTimelineId } from "../../../../src/common/id.ts";
import { CHUNK_BYTES } from "../../../../src/pageserver/remote/chunk_cache.ts";
import { borrowedLayers } from "../../../../src/pageserver/remote/borrowed_layers.ts";
import { LayerBudget } from "../../../../src/pageserver/remote/layer_budget.ts";
import { TenantKeys } from "../../../../src/pageserver/remote/keys.ts";
import { RemoteLayers } from "../../../../src/pageserver/remote/remote_layers.ts";
import { checkData } from "../../../../src/pageserver/service/fsck.ts";
import { LayerRoom } from "../../../../src/pageserver/timeline/layer_room.ts";
import { otherStoreNeeded } from "../../../../src/pageserver/timeline/remote_layer_list.ts";
import { layerPath, whenPresent } from "../../../../src/pagestore/mod.ts";
import { BlockCache } from "../../../../src/pagestore/layer/block_cache.ts";
import { LAYER_DELTA } from "../../../../src/pagestore/layer/layer_format.ts";
import { type LayerInfo, LayerReader } from "../../../../src/pagestore/layer/layer_reader.ts";
import { LayerWriter } from "../../../../src/pagestore/layer/layer_writer.ts";
import { ObjectTable } from "../../../../src/pagestore/value/object_id.ts";
import { RecordStarts } from "../../../../src/pagestore/value/record_starts.ts";
import { VALUE_WILL_INIT, ValueChain } from "../../../../src/pagestore/value/value_chain.ts";
import { NULL_LOGGER } from "../../../../src/process/log.ts";
import { FaultyDisk } from "../../../harness/faulty_disk.ts";
import { MemoryStore } from "../../../harness/memory_store.ts";
import { Random } from "../../../harness/random.ts";
import { RemoteTenant } from "../../../harness/remote_tenant.ts";
import { TINY_PATHS, TINY_TENANT } from "../../../harness/tiny_page_server.ts";

const TIMELINE = parseTimelineId("b".repeat(32));
const DIRECTORY = TINY_PATHS.timeline(TINY_TENANT, TIMELINE);
const OBJECT = { kind: 1, a: 1663, b: 5, c: 16384, d: 0 };
const BLOCKS = 400;
const VALUE_BYTES = 8192;
const END = 2 ** 30;

const NOISE = randomBytes(BLOCKS * VALUE_BYTES);

/** A layer of some 3 MiB that can't be compressed. */
class Fixture {
  readonly disk = new FaultyDisk(new Random(1));
  readonly store = new MemoryStore();
  readonly info: LayerInfo;
  readonly values: Buffer[] = [];
  nowMs = 0;
  layers: RemoteLayers;
  reader: LayerReader;
  readonly layer;
  readonly key: string;

  constructor() {
    const { disk } = this;
    disk.mkdirsSync(DIRECTORY);
    const writer = new LayerWriter(disk, DIRECTORY, layerPath(DIRECTORY, 1), LAYER_DELTA, 0, END);
    for (let block = 0; block < BLOCKS; block++) {
      const value = NOISE.subarray(block * VALUE_BYTES, (block + 1) * VALUE_BYTES);
      this.values.push(value);
      writer.startKey(OBJECT, block);
      writer.add(block + 1, value, 0, value.length, 0, VALUE_WILL_INIT);
    }
    const starts = new RecordStarts();
    starts.add(1);
    const { fileSize, footerCrc } = writer.finish(starts.blocks());
    this.info = { kind: LAYER_DELTA, startLsn: 0, endLsn: END, fileSize, footerCrc };
    const bytes = disk.readFileSync(layerPath(DIRECTORY, 1)).slice();
    this.layer = { number: 1, generation: 3, sizeBytes: fileSize, crc: 0 };
    this.key = new TenantKeys(TINY_TENANT).layer(TIMELINE, this.layer);
    this.store.objects.set(this.key, bytes);
    this.layers = this.#newLayers();
    this.reader = this.#newReader();
  }

  #newLayers(): RemoteLayers {
    const { disk, store } = this;
    return new RemoteLayers({
      disk,
      paths: TINY_PATHS,
      store,
      nowMs: () => this.nowMs++,
      closeFile: () => {},
    });
  }

  #newReader(): LayerReader {
    const files = this.layers.of(TINY_TENANT, TIMELINE);
    // So small that everything is read again each time.
    return new LayerReader(files, layerPath(DIRECTORY, 1), this.info, new BlockCache(0), new ObjectTable());
  }

  async evict(): Promise<void> {
    await this.layers.of(TINY_TENANT, TIMELINE).evict([this.layer]);
  }

  restart(): void {
    this.layers = this.#newLayers();
    this.reader = this.#newReader();
  }

  read(block: number): Promise<Buffer> {
    return whenPresent(() => this.readNow(block));
  }

  readNow(block: number): Buffer {
    const chain = new ValueChain();
    // A cache of its own, so that the reader has nothing in memory.
    const objects = new ObjectTable();
    const files = this.layers.of(TINY_TENANT, TIMELINE);
    const reader = new LayerReader(files, layerPath(DIRECTORY, 1), this.info, new BlockCache(0), objects);
    const slot = objects.slot(OBJECT.kind, OBJECT.a, OBJECT.b, OBJECT.c, OBJECT.d);
    reader.collect(slot, block, END, -1, chain);
    return Buffer.from(chain.bytes[0]!.slice(chain.off[0], chain.off[0]! + chain.len[0]!));
  }
}

describe("a layer in the object store", () => {
  test("is read by the chunks that reads touch, and each is fetched once", async () => {
    const fixture = new Fixture();
    await fixture.evict();
    assert.equal(fixture.disk.statSync(layerPath(DIRECTORY, 1)), null);
    for (const block of [0, 399, 200, 0]) assert.deepEqual(await fixture.read(block), fixture.values[block]);
    const { requests } = fixture.store;
    assert.ok(requests <= 6, `${requests} requests`);
    assert.ok(fixture.layers.cache.bytes < fixture.info.fileSize / 2);
    for (const block of [0, 399, 200]) assert.deepEqual(fixture.readNow(block), fixture.values[block]);
    fixture.restart();
    for (const block of [0, 399, 200]) assert.deepEqual(fixture.readNow(block), fixture.values[block]);
    assert.equal(fixture.store.requests, requests);
  });

  test("is read ahead of whoever goes through it", async () => {
    const fixture = new Fixture();
    await fixture.evict();
    let waits = 0;
    for (let block = 0; block < BLOCKS; block++) {
      await whenPresent(() => {
        try {
          return fixture.readNow(block);
        } catch (error) {
          waits++;
          throw error;
        }
      });
    }
    assert.ok(waits < fixture.info.fileSize / CHUNK_BYTES, `${waits} waits`);
    assert.ok(fixture.store.requests <= fixture.info.fileSize / CHUNK_BYTES + 1);
  });

  test("is fetched once for all who wait for it", async () => {
    const fixture = new Fixture();
    await fixture.evict();
    const all = await Promise.all(Array.from({ length: 50 }, () => fixture.read(100)));
    for (const value of all) assert.deepEqual(value, fixture.values[100]);
    assert.ok(fixture.store.requests <= 3, `${fixture.store.requests} requests`);
  });

  test("is fetched again where this disk has damaged it", async () => {
    const fixture = new Fixture();
    await fixture.evict();
    assert.deepEqual(await fixture.read(7), fixture.values[7]);
    for (const path of filesBelow(fixture.disk, TINY_PATHS.chunkCache)) {
      const file = fixture.disk.openSync(path, "write");
      // A hole, as after a crash.
      file.writeSync(new Uint8Array(CHUNK_BYTES), 0, Math.min(CHUNK_BYTES, file.sizeSync()), 0);
      file.closeSync();
    }
    fixture.restart();
    assert.deepEqual(await fixture.read(7), fixture.values[7]);
    // Torn in the middle.
    for (const path of filesBelow(fixture.disk, TINY_PATHS.chunkCache)) {
      const file = fixture.disk.openSync(path, "write");
      file.truncateSync(1000);
      file.closeSync();
    }
    fixture.restart();
    assert.deepEqual(await fixture.read(7), fixture.values[7]);
  });

  test("is never a wrong page: what is damaged or missing in the store is an error", async () => {
    const fixture = new Fixture();
    await fixture.evict();
    const bytes = fixture.store.objects.get(fixture.key)!;
    bytes[500_000]! ^= 1;
    let damaged = 0;
    for (let block = 50; block < 70; block++) {
      try {
        assert.deepEqual(await fixture.read(block), fixture.values[block]);
      } catch (error) {
        assert.ok(error instanceof ZenithError && error.kind === "corrupt_data", String(error));
        assert.match(error.message, /fetched 3 times from memory:.*layers\/00000001-00000003/);
        damaged++;
      }
    }
    assert.ok(damaged > 0 && damaged <= 8, `${damaged} blocks can't be read`);
    fixture.restart();
    bytes[500_000]! ^= 1;
    fixture.layers.cache.dropTenant(TINY_TENANT);
    fixture.store.objects.set(fixture.key, bytes.subarray(0, bytes.length - 10));
    await assert.rejects(fixture.read(0), /expected \d+/);
    fixture.store.objects.delete(fixture.key);
    await assert.rejects(fixture.read(0), /is missing, and the layer is not here/);
    fixture.store.objects.set(fixture.key, bytes);
    assert.deepEqual(await fixture.read(0), fixture.values[0]);
  });

  test("waits for nothing when the store is away: the read fails, and the next one may succeed", async () => {
    const fixture = new Fixture();
    await fixture.evict();
    fixture.store.failAt(0, "gone");
    await assert.rejects(fixture.read(3), /the answer was lost|the store is gone/);
    fixture.store.heal();
    assert.deepEqual(await fixture.read(3), fixture.values[3]);
  });

  test("can be read by another thread, which waits for each chunk", async () => {
    const fixture = new Fixture();
    await fixture.evict();
    const fetched = new Map<number, Uint8Array>();
    for (let chunk = 0; chunk * CHUNK_BYTES < fixture.info.fileSize; chunk++) {
      fetched.set(chunk, await fixture.layers.chunk(layerPath(DIRECTORY, 1), chunk, false));
    }
    const borrowed = borrowedLayers(fixture.disk, ({ chunk }) => fetched.get(chunk)!);
    const objects = new ObjectTable();
    const path = layerPath(DIRECTORY, 1);
    const reader = new LayerReader(borrowed, path, fixture.info, new BlockCache(1 << 20), objects);
    reader.verify();
    const slot = objects.slot(OBJECT.kind, OBJECT.a, OBJECT.b, OBJECT.c, OBJECT.d);
    for (let block = 0; block < BLOCKS; block++) {
      const chain = new ValueChain();
      reader.collect(slot, block, END, -1, chain);
      assert.deepEqual(
        Buffer.from(chain.bytes[0]!.slice(chain.off[0], chain.off[0]! + chain.len[0]!)),
        fixture.values[block],
      );
    }
  });

  test("is read from one store only: with another one configured, it is refused", async () => {
    const fixture = new Fixture();
    const needed = (url: string) => otherStoreNeeded(fixture.disk, TINY_PATHS, url);
    assert.equal(needed("memory:other"), null);
    await fixture.evict();
    assert.equal(needed("memory:other"), "memory:");
    assert.equal(needed("memory:"), null);
    Object.assign(fixture.store, { url: "memory:other" });
    fixture.restart();
    await assert.rejects(fixture.read(0), /are in memory:, and the object store is memory:other/);
  });
});

describe("the disk budget", () => {
  test("removes what was not read for the longest time, and never what is not uploaded", async () => {
    const fixture = new Fixture();
    const room = new LayerRoom();
    const { sizeBytes } = fixture.layer;
    const now = () => fixture.nowMs++;
    const budgetOf = (bytes: number) => new LayerBudget(fixture.layers, room, bytes, now, NULL_LOGGER);
    const tenant = {
      tenantId: TINY_TENANT,
      uploaded: new Map([[TIMELINE, [fixture.layer]]]),
      pendingBytes: 0,
    };
    const isHere = () => fixture.disk.statSync(layerPath(DIRECTORY, 1)) !== null;
    await budgetOf(sizeBytes).enforce([tenant]);
    assert.ok(isHere(), "what fits stays");
    await budgetOf(1000).enforce([{ ...tenant, uploaded: new Map(), pendingBytes: sizeBytes }]);
    assert.ok(isHere(), "what is only here stays");
    assert.ok(room.isFull, "and no more is taken in");
    let isFree = false;
    const waiting = room.free().then(() => isFree = true);
    await budgetOf(sizeBytes - 1).enforce([tenant]);
    await waiting;
    assert.ok(isFree && !isHere(), "what is uploaded goes");
    assert.deepEqual(budgetOf(1).use([tenant]), { chunkBytes: 0, uploadedBytes: 0, pendingBytes: 0 });
    for (const block of [0, 399, 200]) assert.deepEqual(await fixture.read(block), fixture.values[block]);
  });

  test("keeps the chunks that are read within a limit", async () => {
    const fixture = new Fixture();
    await fixture.evict();
    const limit = 6 * CHUNK_BYTES;
    fixture.layers.cache.limit(limit);
    const random = new Random(5);
    for (let i = 0; i < 60; i++) {
      const block = random.int(BLOCKS);
      assert.deepEqual(await fixture.read(block), fixture.values[block]);
      assert.ok(fixture.layers.cache.bytes <= limit);
      const files = filesBelow(fixture.disk, TINY_PATHS.chunkCache);
      assert.ok(files.length <= 6, `${files.length} files`);
    }
  });
});

describe("a tenant that was taken over", () => {
  test("has no layers here until they are read, and takes in WAL on top of them", async () => {
    const store = new MemoryStore();
    const tenant = await RemoteTenant.create(store);
    await tenant.write("main", 30, 3000);
    await tenant.flush("main");
    await tenant.branch("child", "main");
    await tenant.upload.uploadFiles();
    await tenant.upload.uploadWal();
    const restored = await RemoteTenant.restore(store);
    const layers = () =>
      filesBelow(restored.disk, TINY_PATHS.tenant(TINY_TENANT)).filter((path) => path.endsWith(".layer"));
    assert.deepEqual(layers(), []);
    assert.deepEqual(await restored.ends(), await tenant.ends());
    assert.deepEqual(layers(), []);
    for (const branch of ["main", "child"]) await restored.write(branch, 20, 2000);
    await restored.flush("main");
    assert.equal(layers().length, 1);
    await restored.upload.uploadFiles();
    await restored.upload.uploadWal();
    const again = await RemoteTenant.restore(store);
    assert.deepEqual(await again.ends(), await restored.ends());
    for (const one of [tenant, restored, again]) {
      await one.close();
      for await (const { problems } of checkData(one.disk, TINY_PATHS.workdir)) {
        assert.deepEqual(problems, []);
      }
    }
  });
});

function filesBelow(disk: FaultyDisk, directory: string): string[] {
  return disk.readdirSync(directory).flatMap((name) => {
    const path = `${directory}/${name}`;
    return disk.statSync(path)?.isDirectory === true ? filesBelow(disk, path) : [path];
  });
}
