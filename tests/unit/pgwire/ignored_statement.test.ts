import assert from "node:assert/strict";
import { test } from "node:test";
import { ignoredStatementTag } from "../../../src/pgwire/ignored_statement.ts";

test("statements that clients send on their own are answered by their tag", () => {
  assert.equal(ignoredStatementTag("SET extra_float_digits = 3"), "SET");
  assert.equal(ignoredStatementTag("  set client_encoding to utf8;"), "SET");
  assert.equal(ignoredStatementTag("select 1"), "SELECT");
  assert.equal(ignoredStatementTag("BEGIN;"), "BEGIN");
  assert.equal(ignoredStatementTag("commit"), "COMMIT");
});

test("others are not", () => {
  for (const sql of ["", "status", "select 10", "select now()", "settings", "show wal_segment_size"]) {
    assert.equal(ignoredStatementTag(sql), undefined, sql);
  }
});
