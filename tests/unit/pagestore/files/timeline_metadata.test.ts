import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { ZenithError } from "../../../../src/common/errors.ts";
import {
  decodeMetadata,
  encodeMetadata,
  type TimelineMetadata,
} from "../../../../src/pagestore/files/timeline_metadata.ts";
import { NOTHING_GIVEN_UP, Retention } from "../../../../src/pagestore/value/retention.ts";
const key = { object: { kind: 255, a: 0xffffffff, b: 0, c: 16384, d: 255 }, block: 0xffffffff };

const layer = {
  kind: 1,
  level: 0,
  footerCrc: 0xdeadbeef,
  startLsn: 2 ** 40,
  endLsn: 2 ** 40 + 8,
  fileSize: 2 ** 33,
  givenUp: NOTHING_GIVEN_UP,
};

const metadata: TimelineMetadata = {
  ancestorLsn: 2 ** 52 + 8,
  startLsn: 2 ** 52 + 8,
  diskConsistentLsn: Number.MAX_SAFE_INTEGER,
  nextLayerNumber: 4_000_000_000,
  retention: new Retention(2 ** 50, [1, 2 ** 49]),
  layers: [
    { ...layer, number: 1, keys: null },
    {
      ...layer,
      number: 0xfffffffe,
      kind: 2,
      level: 1,
      givenUp: { cutoff: 2 ** 40 + 4, points: 0xffff_ffff },
      keys: { first: { ...key, block: 3 }, last: key },
    },
  ],
  userData: Uint8Array.of(1, 2, 3),
};

describe("timeline metadata", () => {
  test("comes back as it was written", () => {
    assert.deepEqual(decodeMetadata(encodeMetadata(metadata), "metadata"), metadata);
    const root = { ...metadata, ancestorLsn: null, layers: [], userData: new Uint8Array(0) };
    assert.deepEqual(decodeMetadata(encodeMetadata(root), "metadata"), root);
  });

  test("is refused when a single bit of it is wrong, or a byte is missing or too many", () => {
    const refused = (bytes: Uint8Array, what: string) =>
      assert.throws(
        () => decodeMetadata(bytes, "/x/metadata"),
        (error: unknown) =>
          error instanceof ZenithError && error.kind === "corrupt_data" &&
          error.message.includes("/x/metadata"),
        what,
      );
    const good = encodeMetadata(metadata);
    for (let bit = 0; bit < 8 * good.length; bit++) {
      const bad = good.slice();
      bad[bit >> 3] ^= 1 << (bit & 7);
      refused(bad, `bit ${bit}`);
    }
    for (let length = 0; length < good.length; length++) refused(good.subarray(0, length), `${length} bytes`);
    refused(Uint8Array.of(...good, 0), "a byte more");
  });
});
