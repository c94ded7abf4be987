/** Where layers lie on the map: keys from left to right, LSNs from top to bottom, the newest above. */
import type { ResultOf } from "../contract.ts";
import { lsnToNumber } from "../format.ts";

export type Part = ResultOf<"branchLayers">["items"][number];
export type Layer = Part["layers"][number];
export type Key = readonly number[];

/** A box, in parts of the whole from 0 to 1. */
export interface Box {
  readonly part: Part;
  readonly layer: Layer;
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

export interface LayerMap {
  readonly boxes: readonly Box[];
  /** Where a key is, from 0 to 1. */
  readonly xOf: (key: Key) => number;
  /** Where an LSN is, from 0 for the newest. */
  readonly yOf: (lsn: string) => number;
  /** The LSNs of the axis, newest first. */
  readonly lsns: readonly { readonly text: string; readonly at: number }[];
}

export function compareKeys(a: Key, b: Key): number {
  for (let i = 0; i < a.length; i++) {
    const by = a[i]! - b[i]!;
    if (by !== 0) return by;
  }
  return 0;
}

/**
 * Both axes have a step for each place where a layer begins or ends: layers of a few kilobytes
 * would be lost beside those of gigabytes.
 */
export function layOutLayers(parts: readonly Part[]): LayerMap {
  const layers = parts.flatMap((part) => part.layers.map((layer) => ({ part, layer })));
  const keys: Key[] = [];
  for (const { layer } of layers) {
    if (layer.first_key !== null) keys.push(layer.first_key);
    if (layer.last_key !== null) keys.push(after(layer.last_key));
  }
  keys.sort(compareKeys);
  const bounds = keys.filter((key, i) => i === 0 || compareKeys(key, keys[i - 1]!) !== 0);
  const xOf = (key: Key) => {
    // Between two bounds a key is in the middle: how many there are is not known.
    const place = bounds.findIndex((bound) => compareKeys(key, bound) <= 0);
    if (bounds.length < 2 || place < 0) return 1;
    const isBound = compareKeys(key, bounds[place]!) === 0;
    return Math.max(0, isBound ? place : place - 0.5) / (bounds.length - 1);
  };
  const numbers = new Map<number, string>();
  for (const { layer } of layers) {
    for (const text of [layer.start_lsn, layer.end_lsn]) numbers.set(lsnToNumber(text), text);
  }
  for (const { start_lsn, end_lsn, disk_consistent_lsn } of parts) {
    for (const text of [start_lsn, end_lsn, disk_consistent_lsn]) numbers.set(lsnToNumber(text), text);
  }
  const steps = [...numbers.keys()].sort((a, b) => b - a);
  const yOf = (lsn: string) => {
    const number = lsnToNumber(lsn);
    if (steps.length < 2) return 0;
    const below = steps.findIndex((step) => step <= number);
    if (below < 0) return 1;
    if (below === 0) return 0;
    const [above, under] = [steps[below - 1]!, steps[below]!];
    return (below - (number - under) / (above - under)) / (steps.length - 1);
  };
  return {
    xOf,
    yOf,
    lsns: steps.map((number) => ({ text: numbers.get(number)!, at: yOf(numbers.get(number)!) })),
    boxes: layers.map(({ part, layer }) => ({
      part,
      layer,
      left: layer.first_key === null ? 0 : xOf(layer.first_key),
      right: layer.last_key === null ? 1 : xOf(after(layer.last_key)),
      top: yOf(layer.end_lsn),
      bottom: yOf(layer.start_lsn),
    })),
  };
}

/** The next key after one: a range ends before it. */
function after(key: Key): Key {
  return [...key.slice(0, -1), key.at(-1)! + 1];
}

const SIZE_BLOCK = 2 ** 32 - 1;
const KINDS: Readonly<Record<number, string>> = {
  2: "transaction statuses",
  3: "relation map",
  4: "database",
  5: "tablespace",
  6: "prepared transaction",
  7: "replication origin",
  8: "checkpoint",
  9: "control file",
  10: "commit times",
  11: "total of blocks",
  12: "clock set back",
};
const FORKS = ["", " fsm", " vm", " init"];

/** What a person calls a key. @param names of relations, by `spc/db/rel` */
export function describeKey(key: Key, names: ReadonlyMap<string, string>): string {
  const [kind = 0, a, b, c, d = 0, block = 0] = key;
  if (kind !== 1) return KINDS[kind] ?? `kind ${kind}`;
  const name = names.get(`${a}/${b}/${c}`) ?? `${a}/${b}/${c}`;
  return `${name}${FORKS[d] ?? ` fork ${d}`}${block === SIZE_BLOCK ? ", its size" : ` block ${block}`}`;
}
