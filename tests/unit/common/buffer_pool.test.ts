import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { BufferPool } from "../../../src/common/buffer_pool.ts";

describe("a pool of buffers", () => {
  test("hands a buffer out again when the last reference to it is gone, not before", () => {
    const pool = new BufferPool(16);
    const buffer = pool.take();
    pool.retain(buffer);
    pool.release(buffer);
    assert.notEqual(pool.take(), buffer);
    pool.release(buffer);
    assert.equal(pool.freeBytes, 16);
    assert.equal(pool.take(), buffer);
    assert.equal(pool.freeBytes, 0);
  });

  test("has nothing to do with buffers that are not its own", () => {
    const pool = new BufferPool(16);
    const stranger = new Uint8Array(16);
    pool.retain(stranger);
    pool.release(stranger);
    pool.release(stranger);
    assert.equal(pool.freeBytes, 0);
  });

  test("keeps what the time since the last trim has needed, and no more", () => {
    const pool = new BufferPool(16);
    const buffers = Array.from({ length: 10 }, () => pool.take());
    for (const buffer of buffers) pool.release(buffer);
    pool.trim();
    assert.equal(pool.freeBytes, 160, "all were in use a moment ago");
    const again = [pool.take(), pool.take(), pool.take()];
    for (const buffer of again) pool.release(buffer);
    pool.trim();
    assert.equal(pool.freeBytes, 48);
    pool.trim();
    assert.equal(pool.freeBytes, 0);
  });
});
