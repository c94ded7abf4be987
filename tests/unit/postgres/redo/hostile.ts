/** Damaged records and pages against redo: it may refuse them, but must stay inside the page and come to an end. */
import assert from "node:assert/strict";
import type { WalRecord } from "../../../../src/postgres/wal/record.ts";
import { RedoError } from "../../../../src/postgres/redo/page/errors.ts";
import { pageAddItem, pageInit } from "../../../../src/postgres/redo/page/page.ts";
import { BLCKSZ, PAGE, RECORD, W8 } from "../../../../src/postgres/redo/page/workspace.ts";
import { makeRecord } from "./record_fixture.ts";

/** A source of 32-bit numbers that depends on its seed only (xorshift). */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/**
 * Applies `rounds` records of random types, with random contents, to pages with items, some of them damaged.
 *
 * @returns how many were applied, so that a test can tell that not all of them fail at once
 */
export function applyHostileRecords(
  redo: (rec: WalRecord, blk: number) => void,
  specialSize: number,
  seed: number,
  rounds: number,
): number {
  const random = randomNumbers(seed);
  let applied = 0;
  for (let round = 0; round < rounds; round++) {
    makePage(random, specialSize);
    const main = randomBytes(random, random(3) === 0 ? 600 : 60);
    const blocks = Array.from({ length: 1 + random(7) }, () => ({
      blkno: random(1000),
      data: randomBytes(random, random(200)),
    }));
    const rec = makeRecord(random(16) << 4, main, blocks);
    const before = W8.slice(RECORD, RECORD + 8192);
    try {
      redo(rec, random(blocks.length));
      applied++;
    } catch (error) {
      if (!(error instanceof RedoError)) throw new Error(`seed ${seed}, round ${round}`, { cause: error });
    }
    assert.deepEqual(W8.slice(RECORD, RECORD + 8192), before, `seed ${seed}, round ${round}: record changed`);
  }
  return applied;
}

/** Makes the page and a record that fits it, to be applied to block reference `blk`. */
export type RecordCase = () => { rec: WalRecord; blk: number };

/**
 * Applies each of the records `rounds` times with a few bytes of it or of the page changed, or its end missing.
 *
 * @returns how many were refused, so that a test can tell that the damage mattered
 */
export function applyDamagedRecords(
  redo: (rec: WalRecord, blk: number) => void,
  cases: readonly RecordCase[],
  seed: number,
  rounds: number,
): number {
  const random = randomNumbers(seed);
  let refused = 0;
  for (let round = 0; round < rounds * cases.length; round++) {
    const { rec, blk } = cases[round % cases.length]();
    for (let i = random(3); i >= 0; i--) damage(random, rec, blk);
    const before = W8.slice(RECORD, RECORD + 8192);
    try {
      redo(rec, blk);
    } catch (error) {
      if (!(error instanceof RedoError)) throw new Error(`seed ${seed}, round ${round}`, { cause: error });
      refused++;
    }
    assert.deepEqual(W8.slice(RECORD, RECORD + 8192), before, `seed ${seed}, round ${round}: record changed`);
  }
  return refused;
}

function damage(random: (below: number) => number, rec: WalRecord, blk: number): void {
  const value = random(2) === 0 ? random(8) : random(256);
  const dataLen = rec.dataLen[blk];
  switch (random(4)) {
    case 0:
      W8[PAGE + random(random(2) === 0 ? 80 : BLCKSZ)] = value;
      break;
    case 1:
      rec.mainLen = random(rec.mainLen + 1);
      break;
    case 2:
      if (dataLen > 0) W8[rec.dataOff[blk] + random(dataLen)] = value;
      break;
    default:
      if (rec.mainLen > 0) W8[rec.mainOff + random(rec.mainLen)] = value;
  }
}

function makePage(random: (below: number) => number, specialSize: number): void {
  pageInit(PAGE, specialSize);
  const items = random(12);
  for (let i = 0; i < items; i++) {
    const size = 16 + 8 * random(20);
    const at = pageAddItem(PAGE, size, 1 + random(i + 1));
    for (let b = 0; b < size; b++) W8[at + b] = random(4) === 0 ? random(256) : random(4);
  }
  const damages = random(3) === 0 ? random(20) : 0;
  for (let i = 0; i < damages; i++) W8[PAGE + random(random(2) === 0 ? 80 : BLCKSZ)] = random(256);
}

/** Mostly small numbers, since large ones fail at the first check. */
function randomBytes(random: (below: number) => number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = i % 2 === 1 || random(3) > 0 ? random(3) : random(40);
  for (let i = random(3); i > 0 && length > 0; i--) bytes[random(length)] = random(256);
  return bytes;
}
