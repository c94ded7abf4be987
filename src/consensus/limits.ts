/** Limits on the WAL that a proposer and its acceptors have in flight or in memory. */
import { assert } from "../common/assert.ts";
import { APPEND_MAX_BYTES } from "./messages.ts";

/** How much WAL is in flight or in memory at once. A record may be longer than any of these. */
export interface Limits {
  /** WAL that may be on its way to an acceptor that does not have it durably yet. */
  readonly inFlightBytes: number;
  /**
   * The most of the proposer's own WAL in one message. It is small enough that acceptors begin to
   * write while more is coming, and that with its header it fits the buffers that connections
   * reuse.
   */
  readonly appendBytes: number;
  /** How much WAL one fetch asks for. */
  readonly fetchBytes: number;
  /**
   * When this much of an unfinished record has arrived, the acceptor syncs it, and the proposer
   * hears that it may continue.
   */
  readonly partSyncBytes: number;
}

export const LIMITS: Limits = checkedLimits({
  inFlightBytes: 16 << 20,
  appendBytes: 120 << 10,
  fetchBytes: 1 << 20,
  partSyncBytes: 4 << 20,
});

/** Asserts the relations between limits that let a record of any length pass. */
export function checkedLimits(limits: Limits): Limits {
  const { inFlightBytes, appendBytes, fetchBytes, partSyncBytes } = limits;
  assert(partSyncBytes <= inFlightBytes, "an acceptor confirms before its proposer has to wait for that");
  assert(appendBytes <= APPEND_MAX_BYTES && fetchBytes <= APPEND_MAX_BYTES, "a message can carry it");
  return limits;
}
