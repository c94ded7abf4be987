/** The WAL of the simulation: records of 16 bytes that say who wrote them, and long ones of many times that. */
import type { Lsn } from "../../src/common/lsn.ts";
import type { TermHistory } from "../../src/consensus/term_history.ts";

export const TIMELINE_START = 4096 as Lsn;
export const RECORD_BYTES = 16;

/** The last record boundary in a log that begins at the timeline's start. */
export function boundary(wal: Uint8Array): Lsn {
  let at = 0;
  for (;;) {
    if (at + RECORD_BYTES > wal.length) return (TIMELINE_START + at) as Lsn;
    const end = at + RECORD_BYTES * (1 + wal[at + LENGTH]);
    if (end > wal.length) return (TIMELINE_START + at) as Lsn;
    at = end;
  }
}

/** Where a record says how many times 16 bytes it is longer than others. */
const LENGTH = 4;

/** @param units of how many times 16 bytes, up to 256 */
export function makeRecord(term: number, sequence: number, lsn: number, units = 1): Uint8Array {
  const record = new Uint8Array(RECORD_BYTES * units);
  const view = new DataView(record.buffer);
  view.setUint32(0, term);
  view.setUint32(4, sequence);
  view.setUint32(8, lsn);
  view.setUint32(12, ~(term ^ sequence ^ lsn) >>> 0);
  record.fill(1 + (sequence + term) % 255, RECORD_BYTES);
  record[LENGTH] = units - 1;
  return record;
}

export function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

export function isPrefix(prefix: Uint8Array, of: Uint8Array): boolean {
  if (prefix.length > of.length) return false;
  for (let i = 0; i < prefix.length; i++) {
    if (prefix[i] !== of[i]) return false;
  }
  return true;
}

/** What the proposer of one term has written, from where its term starts. */
export interface TermLog {
  readonly startLsn: Lsn;
  readonly history: TermHistory;
  bytes: Uint8Array;
}

/** Everything that was ever written, by term: what a history says a log consists of. */
export class TermLogs {
  readonly #logs = new Map<number, TermLog>();

  get terms(): IterableIterator<[number, TermLog]> {
    return this.#logs.entries();
  }

  begin(term: number, startLsn: Lsn, history: TermHistory): void {
    this.#logs.set(term, { startLsn, history, bytes: new Uint8Array(0) });
  }

  append(term: number, bytes: Uint8Array): void {
    const log = this.#logs.get(term)!;
    log.bytes = concat(log.bytes, bytes);
  }

  /**
   * The bytes from the timeline's start that a log of this history has, up to `endLsn` or to where its newest term's
   * proposer has written.
   */
  compose(history: TermHistory, endLsn: number): Uint8Array {
    const whole = new Uint8Array(Math.max(0, endLsn - TIMELINE_START));
    let reached = TIMELINE_START as number;
    for (let i = 0; i < history.length; i++) {
      const { term, startLsn } = history[i];
      const log = this.#logs.get(term);
      const end = Math.min(endLsn, i + 1 < history.length ? history[i + 1].startLsn : endLsn);
      if (log === undefined || startLsn < log.startLsn || end <= startLsn) continue;
      const part = log.bytes.subarray(startLsn - log.startLsn, end - log.startLsn);
      whole.set(part, startLsn - TIMELINE_START);
      reached = startLsn + part.length;
    }
    return whole.subarray(0, reached - TIMELINE_START);
  }
}
