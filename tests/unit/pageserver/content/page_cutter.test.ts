/** Files come in pieces of any length. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { isZero, PageCutter } from "../../../../src/pageserver/content/page_cutter.ts";
import { BLCKSZ } from "../../../../src/postgres/cluster/page_layout.ts";
import { Random } from "../../../harness/random.ts";

const PAGES = 20;

describe("a file that is cut into pages", () => {
  test("gives the same pages, in whatever pieces it comes", () => {
    const random = new Random(1);
    const file = Uint8Array.from({ length: PAGES * BLCKSZ }, (_, i) => (i * 7 + (i >>> 13)) & 0xff);
    for (let round = 0; round < 50; round++) {
      const cutter = new PageCutter("base/5/1");
      const pages: Uint8Array[] = [];
      for (let at = 0; at < file.length;) {
        const length = 1 + random.int(round % 2 === 0 ? 3 * BLCKSZ : 100 * BLCKSZ);
        cutter.push(file.subarray(at, at + length), (bytes, off) => {
          pages.push(bytes.slice(off, off + BLCKSZ));
        });
        at += length;
      }
      cutter.finish();
      assert.equal(pages.length, PAGES);
      assert.deepEqual(Buffer.concat(pages), Buffer.from(file));
    }
  });

  test("is damaged when it ends within a page", () => {
    const cutter = new PageCutter("base/5/1");
    cutter.push(new Uint8Array(BLCKSZ + 1), (bytes, off) => assert.ok(isZero(bytes, off)));
    assert.throws(() => cutter.finish(), /base\/5\/1 does not have a whole number of pages/);
    assert.ok(!isZero(Uint8Array.from({ length: BLCKSZ }, (_, i) => i === BLCKSZ - 1 ? 1 : 0), 0));
  });
});
