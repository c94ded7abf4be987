import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { crc32c } from "../../../src/common/crc32c.ts";

function ofText(text: string): number {
  const bytes = new TextEncoder().encode(text);
  return crc32c(bytes, 0, bytes.length);
}

/** The definition, a bit at a time. */
function bitwise(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) !== 0 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

describe("crc32c", () => {
  test("gives the check value of the Castagnoli polynomial", () => {
    assert.equal(ofText("123456789"), 0xe3069283);
  });

  test("gives the values of RFC 3720 appendix B.4", () => {
    assert.equal(crc32c(new Uint8Array(32), 0, 32), 0x8a9136aa);
    assert.equal(crc32c(new Uint8Array(32).fill(0xff), 0, 32), 0x62a8ab43);
    assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i), 0, 32), 0x46dd794e);
    assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, i) => 31 - i), 0, 32), 0x113fdb5c);
  });

  test("of nothing is zero", () => {
    assert.equal(crc32c(new Uint8Array(0), 0, 0), 0);
  });

  test("agrees with the bitwise definition for every length around the slice size and every offset", () => {
    const bytes = Uint8Array.from({ length: 96 }, (_, i) => (i * 197 + 31) & 0xff);
    for (let off = 0; off < 20; off++) {
      for (let len = 0; len <= 70; len++) {
        assert.equal(
          crc32c(bytes, off, len),
          bitwise(bytes.subarray(off, off + len)),
          `off ${off} len ${len}`,
        );
      }
    }
  });

  test("continues over pieces when given the CRC so far", () => {
    const bytes = Uint8Array.from({ length: 100 }, (_, i) => (i * 11) & 0xff);
    const whole = crc32c(bytes, 0, 100);
    for (let cut = 0; cut <= 100; cut++) {
      assert.equal(crc32c(bytes, cut, 100 - cut, crc32c(bytes, 0, cut)), whole);
    }
  });
});
