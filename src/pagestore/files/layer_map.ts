/**
 * Finds the layer files that may hold a version. Layers that cover the same LSN range and have
 * different keys form a *run*. Runs are in LSN order and don't overlap. A lookup goes from the
 * newest run below its LSN to older ones. In each run, it finds the one layer that can hold the key
 * by binary search.
 */
import { assert } from "../../common/assert.ts";
import { corrupt } from "../layer/layer_format.ts";
import type { LayerReader } from "../layer/layer_reader.ts";
import { compareKeys, compareObjects, type ObjectTable } from "../value/object_id.ts";
import type { FoundStart } from "../value/record_starts.ts";
import type { GivenUp } from "../value/retention.ts";
import type { LayerEntry } from "./timeline_metadata.ts";
import type { ValueChain } from "../value/value_chain.ts";

export interface DiskLayer {
  readonly entry: LayerEntry;
  readonly reader: LayerReader;
}

export interface Run {
  readonly startLsn: number;
  readonly endLsn: number;
  /** How often the run's contents have been merged. */
  readonly level: number;
  readonly givenUp: GivenUp;
  readonly sizeBytes: number;
  /**
   * The layers, at least one, in ascending order of their keys. The first one has the record
   * starts.
   */
  readonly layers: readonly DiskLayer[];
}

export class LayerMap {
  /** The runs, ascending by LSN. */
  readonly runs: readonly Run[];

  private constructor(runs: readonly Run[]) {
    this.runs = runs;
  }

  /** @throws {ZenithError} `corrupt_data` when the layers overlap */
  static of(layers: readonly DiskLayer[]): LayerMap {
    const runs: Run[] = [];
    for (let from = 0; from < layers.length;) {
      const { startLsn, endLsn } = layers[from].entry;
      let to = from + 1;
      while (
        to < layers.length && layers[to].entry.startLsn === startLsn && layers[to].entry.endLsn === endLsn
      ) to++;
      const previous = runs.at(-1);
      if (endLsn <= startLsn || (previous !== undefined && startLsn < previous.endLsn)) {
        throw corrupt(
          `layer ${layers[from].reader.path} covers LSNs ${startLsn}..${endLsn}, which others cover too`,
        );
      }
      runs.push(runOf(layers.slice(from, to)));
      from = to;
    }
    return new LayerMap(runs);
  }

  layers(): DiskLayer[] {
    return this.runs.flatMap((run) => run.layers);
  }

  /** Returns a map with additional layers, which are newer than all of these. */
  with(...layers: readonly DiskLayer[]): LayerMap {
    return LayerMap.of([...this.layers(), ...layers]);
  }

  /**
   * Returns a map with additional layers of the oldest run, which has none of their keys.
   *
   * @param layers they all have keys, and the LSNs of that run; before all others if there is none
   */
  withOldest(...layers: readonly DiskLayer[]): LayerMap {
    const { startLsn, endLsn } = layers[0].entry;
    const [oldest] = this.runs;
    const isThere = oldest !== undefined && oldest.startLsn === startLsn && oldest.endLsn === endLsn;
    const first = [...isThere ? oldest.layers : [], ...layers];
    first.sort((x, y) => compareKeys(x.entry.keys!.first, y.entry.keys!.first));
    const others = this.runs.slice(isThere ? 1 : 0).flatMap((run) => run.layers);
    return LayerMap.of([...first, ...others]);
  }

  /**
   * Returns a map with `layers` in place of the runs from `first` to `last`. These may belong to an
   * older map: runs are identified by their LSNs.
   */
  replace(first: Run, last: Run, layers: readonly DiskLayer[]): LayerMap {
    const from = this.runs.findIndex((run) => run.startLsn === first.startLsn);
    const to = this.runs.findIndex((run) => run.endLsn === last.endLsn);
    assert(from >= 0 && to >= from, "layers that were merged are still in the map");
    const before = this.runs.slice(0, from).flatMap((run) => run.layers);
    const after = this.runs.slice(to + 1).flatMap((run) => run.layers);
    return LayerMap.of([...before, ...layers, ...after]);
  }

  /**
   * Adds versions of a block at or below `lsn` to `chain`, newest first, until the chain is
   * complete or has a version at or below `floor`.
   *
   * @throws {ZenithError} `corrupt_data`, `io`
   */
  collect(
    slot: number,
    block: number,
    lsn: number,
    floor: number,
    chain: ValueChain,
    objects: ObjectTable,
  ): void {
    for (let i = this.#lastRunBelow(lsn); i >= 0; i--) {
      const run = this.runs[i];
      const layer = run.layers.length === 1 ? run.layers[0] : layerOf(run, slot, block, objects);
      if (layer === undefined) continue;
      layer.reader.collect(slot, block, lsn, floor, chain);
      if (chain.reaches(floor)) return;
    }
  }

  /**
   * Finds the greatest record start at or below `lsn`. @returns false when there is none; otherwise
   * `found` is filled
   */
  findStart(lsn: number, found: FoundStart): boolean {
    // The first run may have starts from before the beginning of the timeline.
    for (let i = Math.max(this.#lastRunBelow(lsn + 1), 0); i >= 0 && i < this.runs.length; i--) {
      if (this.runs[i].layers[0].reader.findStart(lsn, found)) return true;
    }
    return false;
  }

  /** Returns the last run that starts below `lsn`; -1 when there is none. */
  #lastRunBelow(lsn: number): number {
    let low = 0;
    let high = this.runs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.runs[middle].startLsn < lsn) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}

function runOf(layers: readonly DiskLayer[]): Run {
  const { startLsn, endLsn, level, givenUp } = layers[0].entry;
  let sizeBytes = 0;
  for (const [i, { entry, reader }] of layers.entries()) {
    sizeBytes += entry.fileSize;
    const previous = i === 0 ? null : layers[i - 1].entry.keys;
    if (
      i > 0 && (entry.keys === null || previous === null || compareKeys(previous.last, entry.keys.first) >= 0)
    ) {
      throw corrupt(`layer ${reader.path}: its keys do not follow those of the layer before it`);
    }
  }
  return { startLsn, endLsn, level, givenUp, sizeBytes, layers };
}

/**
 * Returns the layer whose key range holds the key, or else the next layer; undefined after the last
 * one.
 */
function layerOf(run: Run, slot: number, block: number, objects: ObjectTable): DiskLayer | undefined {
  const object = objects.object(slot);
  let low = 0;
  let high = run.layers.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const last = run.layers[middle].entry.keys!.last;
    const order = compareObjects(last.object, object) || last.block - block;
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  return run.layers[low];
}
