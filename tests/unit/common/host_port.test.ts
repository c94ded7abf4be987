import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { formatHostPort, parseHostPort } from "../../../src/common/host_port.ts";

describe("addresses", () => {
  test("are read and printed", () => {
    for (const text of ["127.0.0.1:64000", "db.example.org:1", "[::1]:65535", "localhost:0"]) {
      assert.equal(formatHostPort(parseHostPort(text)), text);
    }
    assert.deepEqual(parseHostPort(":5432"), { host: "127.0.0.1", port: 5432 });
  });

  test("that are none are refused", () => {
    for (const text of ["", "64000", "host", "host:", "host:65536", "host:1x", "::1:5432", "a b:1"]) {
      assert.throws(() => parseHostPort(text), /expected host:port/, text);
    }
  });
});
