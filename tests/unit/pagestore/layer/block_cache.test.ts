import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { BlockCache } from "../../../../src/pagestore/layer/block_cache.ts";

describe("the block cache", () => {
  test("never holds more than its capacity", () => {
    const cache = new BlockCache(1000);
    const layer = cache.newLayerId();
    for (let no = 0; no < 100; no++) {
      cache.put(layer, no, {}, 1 + (no * 37) % 300);
      assert.ok(cache.sizeBytes <= 1000);
    }
    assert.ok(cache.sizeBytes > 500);
  });

  test("keeps what is used and lets go of what is not", () => {
    const cache = new BlockCache(1000);
    const layer = cache.newLayerId();
    const used = { used: true };
    cache.put(layer, 0, used, 100);
    for (let no = 1; no < 100; no++) {
      cache.put(layer, no, {}, 100);
      assert.equal(cache.get(layer, 0), used);
    }
    assert.equal(cache.get(layer, 1), undefined);
  });

  test("tells layers and blocks apart", () => {
    const cache = new BlockCache(1000);
    const [x, y] = [cache.newLayerId(), cache.newLayerId()];
    const [first, second] = [{}, {}];
    cache.put(x, 1, first, 1);
    cache.put(y, 1, second, 1);
    assert.equal(cache.get(x, 1), first);
    assert.equal(cache.get(y, 1), second);
    assert.equal(cache.get(x, 2), undefined);
  });

  test("leaves others what they have when something large is read once", () => {
    const MIB = 1 << 20;
    const cache = new BlockCache(64 * MIB);
    const layer = cache.newLayerId();
    for (let no = 0; no < 48; no++) cache.put(layer, no, {}, MIB);
    const scanned = cache.newLayerId();
    for (let no = 0; no < 200; no++) {
      cache.readOnce(() => {
        assert.equal(cache.get(scanned, no), undefined);
        cache.putData(scanned, no, {}, MIB / 2);
        // For the pages beside one.
        assert.notEqual(cache.get(scanned, no), undefined);
        assert.equal(cache.get(scanned, no - 7) === undefined, no < 7);
      });
      assert.ok(cache.sizeBytes <= 52 * MIB);
    }
    for (let no = 0; no < 48; no++) assert.notEqual(cache.get(layer, no), undefined);
    // What somebody else has used stays.
    const used = cache.get(scanned, 195);
    for (let no = 200; no < 300; no++) cache.readOnce(() => cache.putData(scanned, no, {}, MIB / 2));
    assert.equal(cache.get(scanned, 195), used);
    assert.equal(cache.get(scanned, 196), undefined);
    assert.ok(cache.sizeBytes <= 53 * MIB);
  });

  test("does not take what is larger than itself", () => {
    const cache = new BlockCache(10);
    cache.put(cache.newLayerId(), 0, {}, 11);
    assert.equal(cache.sizeBytes, 0);
  });
});
