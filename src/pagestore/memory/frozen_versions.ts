/**
 * Holds a frozen memory layer in a form that another thread can read: versions and values lie in
 * shared memory, and the keys are listed in the order of a layer file.
 */
import type { ObjectId } from "../value/object_id.ts";
import type { StartBlocks } from "../value/record_starts.ts";
import { VersionTable } from "./version_table.ts";

/** An object and how many of the keys belong to it. */
export interface FrozenObject {
  readonly object: ObjectId;
  readonly keys: number;
}

export interface FrozenVersions {
  /** The objects, ascending. */
  readonly objects: readonly FrozenObject[];
  /** The block number of each key, ascending within an object. */
  readonly blocks: Uint32Array;
  /** The newest version of each key, as its number + 1. */
  readonly heads: Int32Array;
  /** The rows of the {@link VersionTable}. */
  readonly pieces: readonly Uint8Array[];
  readonly count: number;
  /** The value buffers, indexed by the versions' buffer numbers. */
  readonly buffers: readonly Uint8Array[];
  readonly starts: StartBlocks;
}

/** Versions in the order of their keys, and those of a key from oldest to newest. */
export interface SortedVersions {
  readonly versions: VersionTable;
  /** The numbers of the versions in that order. */
  readonly order: Int32Array;
  /** Where each key's versions end in {@link order}. */
  readonly ends: Int32Array;
}

/**
 * Sorts versions with a counting sort. Following each key's links would wait for memory at every
 * step. Here no read depends on the one just before it, so the processor has many reads in flight.
 *
 * @throws nothing; costs three passes over the versions
 */
export function sortVersions({ pieces, count, heads }: FrozenVersions): SortedVersions {
  const versions = VersionTable.of(pieces, count);
  // A chain is identified by the number of its first version: links lead only to lower numbers.
  const chains = new Int32Array(count);
  const lengths = new Int32Array(count);
  for (let version = 0; version < count; version++) {
    const prev = versions.prev(version);
    const chain = prev === 0 ? version : chains[prev - 1];
    chains[version] = chain;
    lengths[chain]++;
  }
  const ends = new Int32Array(heads.length);
  let end = 0;
  // From here on, `lengths` says where the next version of a chain goes.
  for (let key = 0; key < heads.length; key++) {
    const chain = chains[heads[key] - 1];
    const start = end;
    end += lengths[chain];
    lengths[chain] = start;
    ends[key] = end;
  }
  const order = new Int32Array(count);
  for (let version = 0; version < count; version++) order[lengths[chains[version]]++] = version;
  return { versions, order, ends };
}
