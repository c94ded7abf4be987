/**
 * Tells since when a timeline has each object: the LSN of its first version in files and frozen
 * layers. The LSNs are loaded at the first query.
 */
import type { DiskLayer, LayerMap } from "./files/layer_map.ts";
import { AbsentBytes, AbsentOnes } from "./layer/absent_bytes.ts";
import type { LayerReader } from "./layer/layer_reader.ts";
import type { MemoryLayer } from "./memory/memory_layer.ts";
import type { ObjectTable } from "./value/object_id.ts";

export class FirstLsns {
  readonly #objects: ObjectTable;
  /** By slot; null until the first query. */
  #lsn: Float64Array | null = null;
  /** The layers that were loaded so far; null once all are. */
  #loaded: Set<LayerReader> | null = new Set();

  constructor(objects: ObjectTable) {
    this.#objects = objects;
  }

  /** Returns Infinity when the object has no version. Call {@link load} first. */
  of(slot: number): number {
    const lsn = this.#lsn;
    return lsn !== null && slot < lsn.length ? lsn[slot] : Infinity;
  }

  /**
   * Makes all objects known, in the object table as well. Goes on where it was when something was
   * absent.
   *
   * @throws {ZenithError} `corrupt_data`, `io`
   */
  load(layers: LayerMap, frozen: readonly { readonly memory: MemoryLayer }[]): void {
    if (this.#loaded === null) return;
    if (this.#lsn === null) {
      this.#lsn = new Float64Array(this.#objects.count).fill(Infinity);
      // Layers that are frozen from now on are added one by one.
      for (const { memory } of frozen) this.add(memory);
    }
    const absent = new AbsentOnes();
    for (const { reader } of layers.layers()) {
      if (this.#loaded.has(reader)) continue;
      absent.try(() => {
        reader.forEachObject((slot, first) => this.#note(slot, first));
        this.#loaded?.add(reader);
      });
    }
    absent.check();
    this.#loaded = null;
  }

  /** Adds a frozen memory layer. */
  add(layer: MemoryLayer): void {
    if (this.#lsn === null) return;
    for (let i = 0; i < layer.objectCount; i++) this.#note(layer.objectSlot(i), layer.objectFirstLsn(i));
  }

  /** Adds layer files that did not come from a memory layer. */
  addFiles(layers: readonly DiskLayer[]): void {
    if (this.#lsn === null) return;
    try {
      for (const { reader } of layers) reader.forEachObject((slot, first) => this.#note(slot, first));
    } catch (error) {
      if (error instanceof AbsentBytes) return;
      // The next query loads everything again and reports the failure.
      this.#lsn = null;
      this.#loaded = new Set();
    }
  }

  #note(slot: number, lsn: number): void {
    let first = this.#lsn!;
    if (slot >= first.length) {
      const grown = new Float64Array(Math.max(slot + 1, 2 * first.length)).fill(Infinity);
      grown.set(first);
      this.#lsn = first = grown;
    }
    if (lsn < first[slot]) first[slot] = lsn;
  }
}
