import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { sortVersions } from "../../../../src/pagestore/memory/frozen_versions.ts";
import { MemoryLayer } from "../../../../src/pagestore/memory/memory_layer.ts";
import { compareObjects, ObjectTable, SIZE_BLOCK } from "../../../../src/pagestore/value/object_id.ts";
import { Random } from "../../../harness/random.ts";

interface Version {
  readonly slot: number;
  readonly block: number;
  readonly lsn: number;
  readonly len: number;
}

const BLOCKS = [0, 1, 63, 64, 1000, 2 ** 24, 3_000_000_000, SIZE_BLOCK];

describe("the versions of a frozen layer", () => {
  test("come by key, and from the oldest to the newest, whatever order they were added in", () => {
    const random = new Random(5);
    const objects = new ObjectTable();
    const slots = [7, 3, 9].map((c) => objects.slot(1, 1663, 5, c, 0));
    const layer = new MemoryLayer(0);
    const added: Version[] = [];
    const bytes = new Uint8Array(10_000);
    for (let lsn = 1; lsn <= 10_000; lsn++) {
      const version = {
        slot: slots[random.int(slots.length)],
        block: BLOCKS[random.int(BLOCKS.length)],
        lsn,
        len: random.int(100),
      };
      added.push(version);
      layer.put(version.slot, version.block, lsn, bytes, lsn, version.len, 1, false);
    }
    added.sort((x, y) =>
      compareObjects(objects.object(x.slot), objects.object(y.slot)) || x.block - y.block || x.lsn - y.lsn
    );

    const frozen = layer.freeze(objects);
    const { versions, order, ends } = sortVersions(frozen);
    const found: Version[] = [];
    let key = 0;
    let at = 0;
    for (const { object, keys } of frozen.objects) {
      for (const lastKey = key + keys; key < lastKey; key++) {
        for (; at < ends[key]; at++) {
          const version = order[at];
          found.push({
            slot: objects.existing(object),
            block: frozen.blocks[key],
            lsn: versions.lsn(version),
            len: versions.len(version),
          });
        }
      }
    }
    assert.deepEqual(found, added);
  });

  test("of a layer without any are none", () => {
    const frozen = new MemoryLayer(0).freeze(new ObjectTable());
    assert.equal(sortVersions(frozen).order.length, 0);
  });
});
