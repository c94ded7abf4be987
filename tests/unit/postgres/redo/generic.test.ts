import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { RedoError } from "../../../../src/postgres/redo/page/errors.ts";
import { redoGeneric } from "../../../../src/postgres/redo/generic.ts";
import { pageGetLsn, pageInit } from "../../../../src/postgres/redo/page/page.ts";
import { PAGE, W8 } from "../../../../src/postgres/redo/page/workspace.ts";
import { applyHostileRecords } from "./hostile.ts";
import { bytes, END_LSN, makeRecord, pageBytes, u16, u8 } from "./record_fixture.ts";

const PD_LOWER = 12;

function apply(delta: Uint8Array): void {
  redoGeneric(makeRecord(0, new Uint8Array(0), [{ blkno: 7, data: delta }]), 0);
}

describe("redo of generic records", () => {
  test("overwrites the ranges of the delta, zeroes the free space and sets the LSN", () => {
    pageInit(PAGE, 8);
    const expected = pageBytes();
    W8.fill(0xaa, PAGE + 24, PAGE + 8184);
    apply(bytes(u16(PD_LOWER, 2), u16(30), u16(24, 6), u8(1, 2, 3, 4, 5, 6), u16(8190, 2), u8(8, 9)));

    expected.set(bytes(u16(30)), PD_LOWER);
    expected.set([1, 2, 3, 4, 5, 6], 24);
    expected.set([8, 9], 8190);
    assert.deepEqual(pageBytes().subarray(8), expected.subarray(8));
    assert.equal(pageGetLsn(PAGE), END_LSN);
  });

  test("an empty delta still zeroes the free space", () => {
    pageInit(PAGE, 8);
    W8[PAGE + 4000] = 1;
    apply(new Uint8Array(0));
    assert.equal(W8[PAGE + 4000], 0);
  });

  test("refuses a fragment that is cut off, leaves the page, or breaks the header", () => {
    pageInit(PAGE, 8);
    assert.throws(() => apply(bytes(u16(100), u8(1))), RedoError);
    assert.throws(() => apply(bytes(u16(100, 5), u8(1, 2, 3, 4))), RedoError);
    assert.throws(() => apply(bytes(u16(8190, 3), u8(1, 2, 3))), RedoError);
    assert.throws(() => apply(bytes(u16(PD_LOWER, 2), u16(8185))), RedoError);
  });

  test("damaged records never reach beyond the page", () => {
    assert.ok(applyHostileRecords(redoGeneric, 8, Date.now(), 2000) > 0);
  });
});
