/**
 * Manages the part of a timeline that is in no file yet: the memory layer that takes new versions,
 * and the frozen ones that wait for their flush. This class decides when to freeze a layer and when
 * the writer must wait.
 */
import { assert } from "../../common/assert.ts";
import { ZenithError } from "../../common/errors.ts";
import { formatLsn, type Lsn } from "../../common/lsn.ts";
import { FlushQueue } from "./flush_queue.ts";
import type { MemoryUser } from "../memory/memory_budget.ts";
import { MemoryLayer } from "../memory/memory_layer.ts";
import type { ObjectTable } from "../value/object_id.ts";
import type { FoundStart } from "../value/record_starts.ts";
import type { StoreOptions, TimelineStoreConfig } from "../files/store_options.ts";
import type { TimelineFiles } from "../files/timeline_files.ts";
import type { ValueChain } from "../value/value_chain.ts";

export class MemoryLayers {
  readonly #files: TimelineFiles;
  readonly #options: StoreOptions;
  readonly #config: Required<TimelineStoreConfig>;
  readonly #flushes: FlushQueue;
  #open: MemoryLayer;
  #lastLsn: Lsn;
  #closed = false;

  /** Called with a layer that has just been frozen. It is still read from memory. */
  readonly #frozen: (layer: MemoryLayer) => void;

  /** Handles the requests of the memory budget. */
  readonly #budgetUser: MemoryUser = {
    giveBack: () => {
      if (!this.#canFreeze()) return false;
      this.#freeze();
      this.#account();
      this.#flushes.start();
      return true;
    },
  };

  constructor(
    files: TimelineFiles,
    objects: ObjectTable,
    options: StoreOptions,
    config: Required<TimelineStoreConfig>,
    frozen: (layer: MemoryLayer) => void,
  ) {
    this.#files = files;
    this.#options = options;
    this.#config = config;
    this.#frozen = frozen;
    this.#flushes = new FlushQueue(files, objects, options, config.flushRetryMs, () => this.#account());
    this.#lastLsn = files.diskConsistentLsn;
    this.#open = this.#newLayer();
  }

  /** The layer that takes new versions. */
  get open(): MemoryLayer {
    return this.#open;
  }

  /** The frozen layers, oldest first. */
  get frozen(): readonly { readonly memory: MemoryLayer }[] {
    return this.#flushes.layers;
  }

  /** Everything that was added at or below this LSN can be read. */
  get lastLsn(): Lsn {
    return this.#lastLsn;
  }

  /** Makes versions up to `lsn` readable. The caller must then run {@link maintain}. */
  advance(lsn: Lsn): void {
    this.#lastLsn = lsn;
  }

  /**
   * Freezes the open layer when it is full or old, and has frozen layers written, including those
   * whose flush has failed before.
   */
  maintain(): void {
    if (this.#canFreeze()) {
      const now = this.#options.nowMs();
      const open = this.#open;
      if (open.firstPutMs < 0) open.firstPutMs = now;
      const { layerBytes, layerAgeMs } = this.#config;
      if (open.memoryBytes >= layerBytes || now - open.firstPutMs >= layerAgeMs) this.#freeze();
    }
    this.#account();
    this.#flushes.start();
  }

  /** Whether {@link ready} would wait. */
  get congested(): boolean {
    const frozen = this.frozen.length;
    if (frozen > this.#config.maxFrozenLayers) return true;
    return this.#options.memoryBudget?.mustWait(frozen > 0) === true;
  }

  /**
   * Resolves when not too many frozen layers wait to be written, here and, when there is no memory
   * left, elsewhere.
   *
   * @throws the error of the last flush, while it keeps too many layers waiting;
   *   {@link ZenithError} `unavailable` when the store is closed
   */
  async ready(): Promise<void> {
    const budget = this.#options.memoryBudget;
    while (this.congested) {
      this.maintain();
      if (this.frozen.length === 0 && budget !== undefined) {
        await budget.turn(this.#budgetUser);
        if (this.frozen.length === 0) return;
      } else if (!await this.#flushes.settled()) {
        throw this.#flushes.error ?? this.#files.closingError();
      }
    }
  }

  /**
   * Makes everything up to {@link lastLsn} durable.
   *
   * @throws {ZenithError} `disk_full`, `io`: nothing is lost, and another call tries again;
   *   `conflict` when versions have been added beyond the last {@link advance}; `unavailable` when
   *   the store is closed
   */
  async flush(): Promise<void> {
    const target = this.#lastLsn;
    if (this.#open.lastPutLsn > target) {
      throw new ZenithError(
        "conflict",
        `can't flush ${this.#files.directory} at ${formatLsn(target)}: versions up to ` +
          `${formatLsn(this.#open.lastPutLsn as Lsn)} have been added`,
      );
    }
    if (target > this.#files.diskConsistentLsn && this.#flushes.endLsn !== target) this.#freeze();
    await this.#flushes.flush(target);
    if (this.#files.diskConsistentLsn < target) throw this.#flushes.error ?? this.#files.closingError();
  }

  /**
   * Notes that everything up to `lsn` is in files, so new versions come after it. Nothing may be in
   * memory.
   */
  skipTo(lsn: Lsn): void {
    assert(this.#open.isEmpty && this.frozen.length === 0, "memory is skipped when nothing is in it");
    this.#lastLsn = lsn;
    this.#open = this.#newLayer();
    this.#account();
  }

  /** Waits for a running flush. What was not flushed is lost. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#flushes.close();
    this.#options.memoryBudget?.remove(this.#budgetUser);
  }

  /**
   * Adds a block's versions at or below `lsn` to `chain`, newest first, until the chain
   * {@link ValueChain.reaches} `floor`.
   */
  collect(slot: number, block: number, lsn: number, floor: number, chain: ValueChain): void {
    this.#open.collect(slot, block, lsn, floor, chain);
    const frozen = this.#flushes.layers;
    for (let i = frozen.length - 1; i >= 0 && !chain.reaches(floor); i--) {
      frozen[i].memory.collect(slot, block, lsn, floor, chain);
    }
  }

  /** Finds the greatest record start at or below `lsn`. @returns false when there is none */
  findStart(lsn: number, found: FoundStart): boolean {
    if (this.#open.starts.find(lsn, found)) return true;
    const frozen = this.#flushes.layers;
    for (let i = frozen.length - 1; i >= 0; i--) {
      if (frozen[i].memory.starts.find(lsn, found)) return true;
    }
    return false;
  }

  /** Returns the number of versions, which is at least the number of keys. */
  entryCount(): number {
    let count = this.#open.entryCount;
    for (const { memory } of this.frozen) count += memory.entryCount;
    return count;
  }

  /** Visits every key that has versions, some perhaps more than once. */
  forEachKey(visit: (slot: number, block: number) => void): void {
    for (const memory of [this.#open, ...this.frozen.map(({ memory }) => memory)]) {
      for (let i = 0; i < memory.objectCount; i++) {
        const slot = memory.objectSlot(i);
        for (const block of memory.blocksOf(slot)) visit(slot, block);
      }
    }
  }

  /** The memory of frozen layers, including the WAL buffers that they hold. */
  frozenBytes(): number {
    let bytes = 0;
    for (const { memory } of this.frozen) bytes += memory.memoryBytes;
    return bytes;
  }

  /** Returns false in the middle of a record: a layer holds all of a record's versions or none. */
  #canFreeze(): boolean {
    const open = this.#open;
    return !open.isEmpty && open.lastPutLsn <= this.#lastLsn && this.#lastLsn > open.startLsn;
  }

  #freeze(): void {
    this.#flushes.add(this.#open, this.#lastLsn);
    this.#frozen(this.#open);
    this.#open = this.#newLayer();
  }

  #newLayer(): MemoryLayer {
    const { makeImage, pools } = this.#options;
    const maxChainBytes = makeImage === undefined ? Infinity : this.#config.memoryChainBytes;
    return new MemoryLayer(this.#lastLsn, pools, maxChainBytes);
  }

  #account(): void {
    const budget = this.#options.memoryBudget;
    if (budget === undefined || this.#closed) return;
    const fails = this.#flushes.error !== null;
    budget.set(this.#budgetUser, this.#open.memoryBytes, this.frozenBytes(), fails);
  }
}
