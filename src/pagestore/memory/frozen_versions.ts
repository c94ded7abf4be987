/**
 * A frozen memory layer in a form that another thread can read: versions and values lie in shared
 * memory, the keys are listed in the order of a layer file.
 */
import type { ObjectId } from "../value/object_id.ts";
import type { StartBlocks } from "../value/record_starts.ts";
import { VersionTable } from "./version_table.ts";

/** An object and how many of the keys are its. */
export interface FrozenObject {
  readonly object: ObjectId;
  readonly keys: number;
}

export interface FrozenVersions {
  /** Ascending. */
  readonly objects: readonly FrozenObject[];
  /** The block number of each key, ascending within an object. */
  readonly blocks: Uint32Array;
  /** The newest version of each key: its number + 1. */
  readonly heads: Int32Array;
  /** The rows of the {@link VersionTable}. */
  readonly pieces: readonly Uint8Array[];
  readonly count: number;
  /** The buffers, by the versions' buffer numbers. */
  readonly buffers: readonly Uint8Array[];
  readonly starts: StartBlocks;
}

/** Versions by key, and those of a key from the oldest to the newest. */
export interface SortedVersions {
  readonly versions: VersionTable;
  /** The numbers of the versions in that order. */
  readonly order: Int32Array;
  /** Where in {@link order} each key's versions end. */
  readonly ends: Int32Array;
}

/**
 * A counting sort. Going along each key's links instead would wait for memory at every step; here
 * nothing depends on what was read just before, so that the processor has many reads under way.
 *
 * @throws nothing; costs three passes over the versions
 */
export function sortVersions({ pieces, count, heads }: FrozenVersions): SortedVersions {
  const versions = VersionTable.of(pieces, count);
  // A chain is known by the number of its first version: links lead back to lower numbers only.
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
  // From here on `lengths` tells where the next version of a chain goes.
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
