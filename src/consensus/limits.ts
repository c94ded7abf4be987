import { assert } from "../common/assert.ts";
import { APPEND_MAX_BYTES } from "./messages.ts";

/** How much WAL is on its way or in memory at once. A record may be longer than any of it. */
export interface Limits {
  /** WAL that may be on its way to an acceptor that does not have it durably. */
  readonly inFlightBytes: number;
  /**
   * The most of the proposer's own WAL that goes in one message: small enough that acceptors begin to write while more comes, and that with
   * its header it fits into the buffers that connections use again.
   */
  readonly appendBytes: number;
  /** WAL that one fetch asks for. */
  readonly fetchBytes: number;
  /** So much of a record that has not ended is worth a sync at the acceptor: the proposer hears that it may go on. */
  readonly partSyncBytes: number;
}

export const LIMITS: Limits = checkedLimits({
  inFlightBytes: 16 << 20,
  appendBytes: 120 << 10,
  fetchBytes: 1 << 20,
  partSyncBytes: 4 << 20,
});

/** Asserts what limits must be for a record of any length to pass. */
export function checkedLimits(limits: Limits): Limits {
  const { inFlightBytes, appendBytes, fetchBytes, partSyncBytes } = limits;
  assert(partSyncBytes <= inFlightBytes, "an acceptor confirms before its proposer has to wait for that");
  assert(appendBytes <= APPEND_MAX_BYTES && fetchBytes <= APPEND_MAX_BYTES, "a message can carry it");
  return limits;
}
