import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { roomFor } from "../../../src/serve/room.ts";

describe("room for connections", () => {
  test("is what was asked for, if there are files enough", () => {
    for (const files of [65_536, Infinity]) {
      const room = roomFor(10_000, files);
      assert.equal(room.clients, 10_000);
      assert.match(room.hint, /--max-connections/);
    }
  });

  test("leaves files for the rest", () => {
    const { clients, http, isCut, hint } = roomFor(10_000, 1_024);
    assert.ok(isCut);
    assert.equal(2 * clients + http, 768);
    assert.match(hint, /may open 1024 files, so 256 clients/);
    assert.equal(roomFor(10_000, 3).clients, 1);
  });
});
