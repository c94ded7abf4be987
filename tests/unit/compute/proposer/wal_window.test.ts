import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { AssertionError } from "../../../../src/common/assert.ts";
import type { Lsn } from "../../../../src/common/lsn.ts";
import { WalWindow } from "../../../../src/compute/proposer/wal_window.ts";

const START = ((1 << 20) * 5 + 1000) as Lsn;

/** Bytes that tell their position. */
function pattern(lsn: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = (lsn + i) * 31 + ((lsn + i) >> 10);
  return bytes;
}

function append(window: WalWindow, length: number): void {
  const bytes = new Uint8Array(length + 7);
  bytes.set(pattern(window.endLsn, length), 3);
  window.append(bytes, 3, length);
}

function copied(window: WalWindow, lsn: number, length: number): Uint8Array {
  const into = new Uint8Array(length + 2);
  window.copy(lsn as Lsn, into, 2, length);
  return into.subarray(2);
}

function assertHolds(window: WalWindow, lsn: number, length: number): void {
  assert.ok(
    Buffer.from(copied(window, lsn, length)).equals(pattern(lsn, length)),
    `${length} bytes at ${lsn}`,
  );
}

describe("WalWindow", () => {
  test("gives back what was appended, across its chunks", () => {
    const window = new WalWindow(START);
    for (const length of [10, 2_500_000, 1, 1 << 20]) append(window, length);
    assert.equal(window.endLsn, START + 10 + 2_500_000 + 1 + (1 << 20));
    assertHolds(window, START, 5000);
    assertHolds(window, START + 900_000, 2_000_000);
    assert.equal(copied(window, window.endLsn, 0).length, 0);
  });

  test("what was trimmed is gone, the rest is there, and chunks that are used again hold the new bytes", () => {
    const window = new WalWindow(START);
    for (let i = 0; i < 12; i++) {
      append(window, 700_000);
      if (window.endLsn - window.startLsn > 3_000_000) window.trim((window.endLsn - 2_000_000) as Lsn);
      assertHolds(window, window.startLsn, window.endLsn - window.startLsn);
    }
    assert.throws(() => copied(window, window.startLsn - 1, 10), AssertionError);
    assert.throws(() => copied(window, window.endLsn - 5, 6), AssertionError);
    assert.throws(() => window.trim((window.endLsn + 1) as Lsn), AssertionError);
  });
});
