import assert from "node:assert/strict";
import { test } from "node:test";
import { PAGE_SERVER, SAFEKEEPER } from "../../../src/protocol/management.ts";
import { PAGE_SERVER_ROWS, SAFEKEEPER_ROWS } from "../../harness/security_rows.ts";

for (
  const [server, contract, rows] of [
    ["page server", PAGE_SERVER, PAGE_SERVER_ROWS],
    ["safekeeper", SAFEKEEPER, SAFEKEEPER_ROWS],
  ] as const
) {
  test(`every command of the ${server} has a row in the security matrix, and says what names the timeline`, () => {
    const operations = Object.values(contract);
    assert.deepEqual(Object.keys(rows).sort(), operations.map(({ name }) => name).sort());
    for (const { name, access, args, namesInStream } of operations) {
      assert.ok(access === "admin" || namesInStream || "tenant" in args, name);
    }
  });
}
