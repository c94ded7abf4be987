import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { decodeTablespaceMap, encodeTablespaceMap } from "../../../src/protocol/tablespace_map.ts";

describe("the list of tablespaces", () => {
  test("has any location", () => {
    const locations = new Map([
      [16384, "/ssd/a"],
      [16385, "/with blanks/and ünïcode"],
      [4294967295, "/line\nend\r\\"],
      [16387, ""],
    ]);
    assert.deepEqual(decodeTablespaceMap(encodeTablespaceMap(locations)), locations);
    assert.deepEqual(decodeTablespaceMap(new Uint8Array(0)), new Map());
  });

  test("is as PostgreSQL writes it", () => {
    const text = new TextDecoder().decode(encodeTablespaceMap(new Map([[16384, "/a\\b\n"]])));
    assert.equal(text, "16384 /a\\\\b\\\n\n");
  });
});
