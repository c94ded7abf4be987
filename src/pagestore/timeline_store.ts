/**
 * One timeline's versions: an open memory layer that takes new ones, frozen ones being written out, and layer files. What a
 * timeline does not have, its ancestor had at the LSN where the two parted.
 *
 * One writer; any number of readers, which are synchronous and so never see a change half made.
 */
import { basename, dirname } from "node:path";
import { assert } from "../common/assert.ts";
import type { BufferPool } from "../common/buffer_pool.ts";
import { type Disk, TEMPORARY_SUFFIX } from "../common/disk.ts";
import { ioError, systemErrorCode, ZenithError } from "../common/errors.ts";
import { formatLsn, type Lsn } from "../common/lsn.ts";
import type { BlockCache } from "./block_cache.ts";
import { type EncodeValue, flushLayer } from "./flush.ts";
import { corrupt, LAYER_DELTA } from "./layer_format.ts";
import { type ChainLimits, KeyRewriter, type Reconstruct, type RewriteCounts } from "./key_rewriter.ts";
import { type DiskLayer, LayerMap, pickMerge, type Run } from "./layer_map.ts";
import { LayerReader } from "./layer_reader.ts";
import { MemoryLayer } from "./memory_layer.ts";
import { mergeLayers } from "./merge_layers.ts";
import { compareObjects, type ObjectFilter, type ObjectId, ObjectTable } from "./object_id.ts";
import type { FoundStart } from "./record_starts.ts";
import { KEEP_ALL, Retention } from "./retention.ts";
import {
  LAYER_SUFFIX,
  type LayerEntry,
  layerPath,
  metadataPath,
  readMetadata,
  type TimelineMetadata,
  writeMetadata,
} from "./timeline_metadata.ts";
import type { ValueChain } from "./value_chain.ts";

export type { EncodedValue, EncodeValue } from "./flush.ts";

export interface TimelineStoreConfig {
  /** The open memory layer is frozen when it holds this many bytes, WAL buffers included. Default 64 MiB. */
  readonly layerBytes?: number;
  /** … or when its oldest version is this old. Default 10 minutes. */
  readonly layerAgeMs?: number;
  /** Frozen layers that may wait for their flush before {@link TimelineStore.ready} holds the writer back. Default 2. */
  readonly maxFrozenLayers?: number;
  /** How long after a failed flush the next attempt is made. Default 1 s. */
  readonly flushRetryMs?: number;
  /** As many runs of layers are merged into one. Default 4. */
  readonly mergeFanIn?: number;
  /** A merged layer file is closed when it is this long. Default 64 MiB. */
  readonly mergedLayerBytes?: number;
  /** When a chain of versions gets an image, if {@link TimelineStoreOptions.reconstruct} makes one. Default 16, 32 KiB. */
  readonly chainLimits?: ChainLimits;
}

const DEFAULT_LAYER_BYTES = 64 << 20;
const DEFAULT_LAYER_AGE_MS = 10 * 60 * 1000;
const DEFAULT_MAX_FROZEN_LAYERS = 2;
const DEFAULT_FLUSH_RETRY_MS = 1000;
const DEFAULT_MERGE_FAN_IN = 4;
const DEFAULT_MERGED_LAYER_BYTES = 64 << 20;
const DEFAULT_CHAIN_LIMITS: ChainLimits = { maxVersions: 16, maxBytes: 32 << 10 };

export interface TimelineStoreOptions {
  readonly disk: Disk;
  /** The clock, in milliseconds; only differences matter. */
  readonly nowMs: () => number;
  /** Shared by all timelines. */
  readonly cache: BlockCache;
  readonly config?: TimelineStoreConfig;
  /** Where the writer may have its buffers from: they go back when a file holds what they held. */
  readonly buffers?: BufferPool;
  /** The timeline this one is a branch of, and the LSN at which it left it; must stay open as long as this one. */
  readonly ancestor?: { readonly store: TimelineStore; readonly lsn: Lsn };
  /** Called for every value that is written to a layer file: may cut it down to what its block needs. */
  readonly encodeValue?: EncodeValue;
  /** Makes one value of a chain of versions, so that chains have a bound. Called when layers are merged. */
  readonly reconstruct?: Reconstruct;
}

export interface StoreSizes {
  /** All memory layers, the WAL buffers they hold included. */
  readonly memoryBytes: number;
  /** The part of it that is frozen and not yet flushed. */
  readonly frozenBytes: number;
  readonly layerBytes: number;
  readonly layerCount: number;
}

interface FrozenLayer {
  readonly memory: MemoryLayer;
  readonly endLsn: number;
  /** Its file, when that is complete but not yet in the metadata. */
  written: LayerEntry | null;
}

/** What a merge did. */
export interface MergeResult extends RewriteCounts {
  readonly layersBefore: number;
  readonly layersAfter: number;
  readonly bytesBefore: number;
  readonly bytesAfter: number;
}

export class TimelineStore {
  readonly directory: string;
  readonly ancestorLsn: Lsn | null;
  readonly startLsn: Lsn;
  readonly userData: Uint8Array;

  readonly #options: TimelineStoreOptions;
  readonly #layerBytes: number;
  readonly #layerAgeMs: number;
  readonly #maxFrozenLayers: number;
  readonly #flushRetryMs: number;
  readonly #objects: ObjectTable;
  readonly #ancestor: TimelineStore | null;

  #open: MemoryLayer;
  /** Oldest first. */
  #frozen: FrozenLayer[] = [];
  #layers: LayerMap;
  #retention: Retention;
  /** Files that are in no metadata any more, or are not sure to be in none. */
  #obsolete: string[] = [];
  /** The merge under way. */
  #merging: Promise<unknown> | null = null;
  /** Where open branches left this timeline; a number may be in it twice. */
  readonly #branchPoints: number[] = [];
  #nextLayerNumber: number;
  #lastLsn: Lsn;
  #diskConsistentLsn: Lsn;
  #closed = false;

  /** The flush under way. */
  #flushing: Promise<void> | null = null;
  #flushError: unknown = null;
  #flushFailedMs = 0;

  /** By slot, the LSN of the object's first version in this timeline's files and frozen layers; null until asked for. */
  #firstLsn: Float64Array | null = null;

  readonly #found: FoundStart = { start: 0, prev: 0 };

  private constructor(directory: string, metadata: TimelineMetadata, options: TimelineStoreOptions) {
    const config = options.config ?? {};
    this.directory = directory;
    this.ancestorLsn = metadata.ancestorLsn as Lsn | null;
    this.startLsn = metadata.startLsn as Lsn;
    this.userData = metadata.userData;
    this.#options = options;
    this.#layerBytes = config.layerBytes ?? DEFAULT_LAYER_BYTES;
    this.#layerAgeMs = config.layerAgeMs ?? DEFAULT_LAYER_AGE_MS;
    this.#maxFrozenLayers = config.maxFrozenLayers ?? DEFAULT_MAX_FROZEN_LAYERS;
    this.#flushRetryMs = config.flushRetryMs ?? DEFAULT_FLUSH_RETRY_MS;
    this.#ancestor = options.ancestor?.store ?? null;
    this.#objects = this.#ancestor === null ? new ObjectTable() : this.#ancestor.#objects;
    this.#nextLayerNumber = metadata.nextLayerNumber;
    this.#lastLsn = metadata.diskConsistentLsn as Lsn;
    this.#diskConsistentLsn = metadata.diskConsistentLsn as Lsn;
    this.#open = new MemoryLayer(this.#lastLsn, this.#options.buffers);
    this.#retention = metadata.retention;
    this.#layers = LayerMap.of(metadata.layers.map((entry) => this.#diskLayer(entry)));
    this.#forEachBranchPoint((ancestor, lsn) => ancestor.#branchPoints.push(lsn));
  }

  /**
   * Makes a timeline without versions, readable and durable up to `startLsn`. `directory` appears complete or not at all;
   * `<directory>.tmp` may be left behind by a crash, and is replaced when the same timeline is created again.
   *
   * @param options.userData small, kept as it is; comes back as {@link userData}
   * @throws {ZenithError} `already_exists`, `disk_full`, `io`
   */
  static async create(
    directory: string,
    options: TimelineStoreOptions & { readonly startLsn: Lsn; readonly userData?: Uint8Array },
  ): Promise<TimelineStore> {
    const { disk, ancestor, startLsn } = options;
    if (ancestor !== undefined && ancestor.lsn > ancestor.store.lastLsn) {
      throw new ZenithError(
        "out_of_range",
        `can't branch at ${formatLsn(ancestor.lsn)}: the ancestor ends at ${
          formatLsn(ancestor.store.lastLsn)
        }`,
      );
    }
    if (ancestor !== undefined) ancestor.store.#checkReadable(ancestor.lsn);
    const metadata: TimelineMetadata = {
      retention: KEEP_ALL,
      ancestorLsn: ancestor?.lsn ?? null,
      startLsn,
      diskConsistentLsn: startLsn,
      nextLayerNumber: 1,
      layers: [],
      userData: options.userData ?? new Uint8Array(0),
    };
    createDirectory(disk, directory, metadata);
    return await Promise.resolve(new TimelineStore(directory, metadata, options));
  }

  /**
   * Opens a timeline as it was last made durable. Files that its metadata does not name are left from a crash and are
   * removed.
   *
   * @throws {ZenithError} `not_found`, `corrupt_data`, `io`
   */
  static async open(directory: string, options: TimelineStoreOptions): Promise<TimelineStore> {
    const metadata = readMetadata(options.disk, directory);
    const ancestorLsn = options.ancestor?.lsn ?? null;
    if (metadata.ancestorLsn !== ancestorLsn) {
      throw corrupt(
        `${metadataPath(directory)}: ancestor LSN is ${metadata.ancestorLsn}, expected ${ancestorLsn}`,
      );
    }
    const store = new TimelineStore(directory, metadata, options);
    for (const layer of store.#layers.layers()) layer.reader.verify();
    store.#removeStrayFiles();
    return await Promise.resolve(store);
  }

  /** Everything at or below it is readable. */
  get lastLsn(): Lsn {
    return this.#lastLsn;
  }

  /** Everything at or below it survives a crash. */
  get diskConsistentLsn(): Lsn {
    return this.#diskConsistentLsn;
  }

  // ---- the writer

  /** A small integer for the object; the same while the process lives, also in the timeline's ancestors and branches. */
  slot(object: ObjectId): number {
    return this.#objects.slot(object.kind, object.a, object.b, object.c, object.d);
  }

  /** As {@link slot}, but -1 when nobody has named the object yet: it has no versions then. */
  existingSlot(object: ObjectId): number {
    return this.#objects.existing(object);
  }

  object(slot: number): ObjectId {
    return this.#objects.object(slot);
  }

  /**
   * Adds a version of a block. The value stays in `bytes`, which must not change any more. `lsn` must be above
   * {@link lastLsn} and not below that of the last version added; it becomes readable with {@link advance}.
   *
   * @param tag the caller's, 8 bits
   * @param willInit whether the value makes sense without the version before it
   */
  put(
    slot: number,
    block: number,
    lsn: number,
    bytes: Uint8Array,
    off: number,
    len: number,
    tag: number,
    willInit: boolean,
  ): void {
    this.#open.put(slot, block, lsn, bytes, off, len, tag, willInit);
  }

  /** As {@link put}, but copies the value. */
  putValue(
    slot: number,
    block: number,
    lsn: number,
    value: Uint8Array,
    tag: number,
    willInit: boolean,
  ): void {
    this.#open.putValue(slot, block, lsn, value, tag, willInit);
  }

  /**
   * A WAL record starts here, at or above {@link lastLsn}; a new timeline may begin with records that end at or below its
   * {@link startLsn}. Must ascend.
   */
  noteRecord(startLsn: number): void {
    const openStartLsn = this.#open.startLsn;
    assert(
      startLsn >= openStartLsn || openStartLsn === this.startLsn,
      "a record starts behind what is readable",
    );
    this.#open.starts.add(startLsn);
  }

  /**
   * Everything up to `lsn` has been added and becomes readable. May start a flush in the background; its failure shows in
   * {@link ready}, and a later call tries again.
   */
  advance(lsn: Lsn): void {
    assert(!this.#closed, "a closed timeline takes no versions");
    assert(
      lsn >= this.#lastLsn && lsn >= this.#open.lastPutLsn,
      "a timeline advances over all that was added",
    );
    this.#lastLsn = lsn;
    this.maintain();
  }

  /** Does what time makes due: freezes an old memory layer, tries a failed flush again. To be called now and then. */
  maintain(): void {
    const now = this.#options.nowMs();
    const open = this.#open;
    if (!open.isEmpty && open.lastPutLsn <= this.#lastLsn && this.#lastLsn > open.startLsn) {
      if (open.firstPutMs < 0) open.firstPutMs = now;
      if (open.memoryBytes >= this.#layerBytes || now - open.firstPutMs >= this.#layerAgeMs) this.#freeze();
    }
    if (this.#flushError === null || now - this.#flushFailedMs >= this.#flushRetryMs) this.#startFlush();
  }

  /** Whether {@link ready} would wait. */
  get congested(): boolean {
    return this.#frozen.length > this.#maxFrozenLayers;
  }

  /**
   * Resolves when the writer may go on: when not too many frozen layers wait for their flush.
   *
   * @throws the reason of the last failed flush, while it keeps the number of frozen layers too high
   */
  async ready(): Promise<void> {
    while (this.#frozen.length > this.#maxFrozenLayers) {
      this.maintain();
      if (this.#flushing === null) throw this.#flushError;
      await this.#flushing;
    }
  }

  /**
   * Makes everything up to {@link lastLsn} durable.
   *
   * @throws {ZenithError} `disk_full`, `io`: nothing is lost, and another call tries again; `conflict` when versions have been
   *   added that {@link advance} has not passed
   */
  async flush(): Promise<void> {
    assert(!this.#closed, "a closed timeline can't be flushed");
    if (this.#open.lastPutLsn > this.#lastLsn) {
      throw new ZenithError(
        "conflict",
        `can't flush ${this.directory} at ${formatLsn(this.#lastLsn)}: versions up to ` +
          `${formatLsn(this.#open.lastPutLsn as Lsn)} have been added`,
      );
    }
    const target = this.#lastLsn;
    if (target > this.#diskConsistentLsn && this.#frozen.at(-1)?.endLsn !== target) this.#freeze();
    // A flush under way may be about to fail for a reason that is gone: it does not count as an attempt.
    while (this.#flushing !== null) await this.#flushing;
    this.#startFlush();
    while (this.#flushing !== null) await this.#flushing;
    if (this.#diskConsistentLsn < target) throw this.#flushError;
  }

  // ---- upkeep, in the background

  /**
   * Merges layers, if that is due: reads then have fewer places to look at, and shorter chains. Gives way to other work all the
   * time.
   *
   * @returns what it did; null when nothing was due
   * @throws {ZenithError} `disk_full`, `io`, `corrupt_data`, and what reconstruct throws: everything is as it was then
   */
  async compact(): Promise<MergeResult | null> {
    return await this.#oneAtATime(async () => {
      const due = pickMerge(this.#layers.runs, this.#options.config?.mergeFanIn ?? DEFAULT_MERGE_FAN_IN);
      return due === null ? null : await this.#merge(due.first, due.last, this.#retention);
    });
  }

  /**
   * Gives up versions that nobody needs who reads at or above `cutoff`, at one of `points` (branches that are not open now,
   * leases), or through an open branch. From now on other LSNs can't be read, even if it fails.
   *
   * @returns what it did; null when there was nothing in layers below the cutoff
   * @throws {ZenithError} as {@link compact}
   */
  async collectGarbage(cutoff: Lsn, points: readonly Lsn[]): Promise<MergeResult | null> {
    const limit = Math.max(this.#retention.cutoff, Math.min(cutoff, this.#diskConsistentLsn));
    const kept = [...points, ...this.#branchPoints].filter((point) => this.#retention.keeps(point));
    // At once, before a merge under way ends: a branch that is made meanwhile must not start where versions are given up.
    this.#retention = new Retention(limit, kept);
    return await this.#oneAtATime(async () => {
      const retention = this.#retention;
      const runs = this.#layers.runs.filter((run) => run.startLsn < retention.cutoff);
      return runs.length === 0 ? null : await this.#merge(runs[0]!, runs.at(-1)!, retention);
    });
  }

  // ---- readers

  /**
   * Fills `chain` with the versions of a block that are needed to know it at `lsn`, newest first, down to and
   * including one that needs none before it. An empty chain: the block has no version.
   *
   * @param floor the chain also ends with a version at or below this LSN, for a caller who knows the block as of then
   * @throws {ZenithError} `out_of_range` when that LSN is not kept any more, `corrupt_data`, `io`
   */
  collect(slot: number, block: number, lsn: number, chain: ValueChain, floor = -1): void {
    chain.clear();
    this.#checkReadable(lsn);
    this.#collectInto(slot, block, lsn, floor, chain);
  }

  #collectInto(slot: number, block: number, lsn: number, floor: number, chain: ValueChain): void {
    // deno-lint-ignore no-this-alias -- the walk up the ancestors starts here
    let store: TimelineStore | null = this;
    let limit = lsn;
    while (store !== null) {
      store.#collectOwn(slot, block, limit, floor, chain);
      if (store.ancestorLsn === null || isEnough(chain, floor)) return;
      limit = Math.min(limit, store.ancestorLsn);
      store = store.#ancestor;
    }
  }

  /**
   * Every object that has a version here at or below `lsn`, or in an ancestor up to the branch point, even if it
   * was deleted since. In ascending order.
   *
   * @throws {ZenithError} `corrupt_data`, `io`
   */
  objects(filter: ObjectFilter, lsn: number = this.#lastLsn): ObjectId[] {
    this.#loadFirstLsns();
    const slots: number[] = [];
    const count = this.#objects.count;
    for (let slot = 0; slot < count; slot++) {
      const id = this.#objects.object(slot);
      if (id.kind !== filter.kind) continue;
      if (filter.a !== undefined && id.a !== filter.a) continue;
      if (filter.b !== undefined && id.b !== filter.b) continue;
      slots.push(slot);
    }
    const known = new Uint8Array(count);
    // deno-lint-ignore no-this-alias -- the walk up the ancestors starts here
    let store: TimelineStore | null = this;
    let limit = lsn;
    while (store !== null) {
      for (const slot of slots) {
        if (known[slot] === 0 && store.#firstLsnOf(slot) <= limit) known[slot] = 1;
      }
      if (store.ancestorLsn === null) break;
      limit = Math.min(limit, store.ancestorLsn);
      store = store.#ancestor;
    }
    const ids: ObjectId[] = [];
    for (const slot of slots) {
      if (known[slot] !== 0) ids.push(this.#objects.object(slot));
    }
    return ids.sort(compareObjects);
  }

  /**
   * The greatest start of a record at or below `lsn`, and the start before that one; null when history does not
   * hold both, or `lsn` is not kept any more.
   *
   * @throws {ZenithError} `corrupt_data`, `io`
   */
  recordBoundary(lsn: Lsn): { start: Lsn; prev: Lsn } | null {
    const found = this.#found;
    if (this.#lostReadable(lsn) !== null || !this.#findStart(lsn, found)) return null;
    const start = found.start;
    if (found.prev < 0) {
      // The first one in its place: the one before is the last one of an older place.
      if (!this.#findStart(start - 1, found)) return null;
      return { start: start as Lsn, prev: found.start as Lsn };
    }
    return { start: start as Lsn, prev: found.prev as Lsn };
  }

  /** Stops a flush under way at its end and releases files. What was not flushed is gone. */
  async close(): Promise<void> {
    this.#closed = true;
    while (this.#flushing !== null) await this.#flushing;
    while (this.#merging !== null) await this.#merging.catch(() => undefined);
    for (const layer of this.#layers.layers()) layer.reader.close();
    this.#forEachBranchPoint((ancestor, lsn) => {
      ancestor.#branchPoints.splice(ancestor.#branchPoints.indexOf(lsn), 1);
    });
  }

  sizes(): StoreSizes {
    let frozenBytes = 0;
    for (const frozen of this.#frozen) frozenBytes += frozen.memory.memoryBytes;
    let layerBytes = 0;
    let layerCount = 0;
    for (const run of this.#layers.runs) {
      layerBytes += run.sizeBytes;
      layerCount += run.layers.length;
    }
    return {
      memoryBytes: this.#open.memoryBytes + frozenBytes,
      frozenBytes,
      layerBytes,
      layerCount,
    };
  }

  /** The versions of this timeline itself. */
  #collectOwn(slot: number, block: number, lsn: number, floor: number, chain: ValueChain): void {
    if (lsn <= this.startLsn) return;
    this.#open.collect(slot, block, lsn, floor, chain);
    for (let i = this.#frozen.length - 1; i >= 0 && !isEnough(chain, floor); i--) {
      this.#frozen[i]!.memory.collect(slot, block, lsn, floor, chain);
    }
    if (!isEnough(chain, floor)) this.#layers.collect(slot, block, lsn, floor, chain, this.#objects);
  }

  /** Where this timeline reads from its ancestors: a branch may have left below where its own ancestor began. */
  #forEachBranchPoint(visit: (ancestor: TimelineStore, lsn: number) => void): void {
    let limit = this.ancestorLsn;
    for (let store = this.#ancestor; store !== null && limit !== null; store = store.#ancestor) {
      visit(store, limit);
      limit = store.ancestorLsn === null ? null : Math.min(limit, store.ancestorLsn) as Lsn;
    }
  }

  /** @throws {ZenithError} `out_of_range` unless a read at `lsn` gives what it always gave */
  #checkReadable(lsn: number): void {
    const by = this.#lostReadable(lsn);
    if (by === null) return;
    throw new ZenithError(
      "out_of_range",
      `LSN ${formatLsn(lsn as Lsn)} is not kept any more: history begins at ${
        formatLsn(by.#retention.cutoff as Lsn)
      }`,
    );
  }

  /** The timeline, this one or one that a read at `lsn` falls to, that has given up versions it needs; or null. */
  #lostReadable(lsn: number): TimelineStore | null {
    // deno-lint-ignore no-this-alias -- the walk up the ancestors starts here
    let store: TimelineStore | null = this;
    let limit = lsn;
    while (store !== null) {
      if (!store.#retention.keeps(limit)) return store;
      if (store.ancestorLsn === null) return null;
      limit = Math.min(limit, store.ancestorLsn);
      store = store.#ancestor;
    }
    return null;
  }

  #firstLsnOf(slot: number): number {
    const first = this.#firstLsn;
    const flushed = first !== null && slot < first.length ? first[slot]! : Infinity;
    return Math.min(flushed, this.#open.firstLsnOf(slot));
  }

  /** Makes this timeline's objects and its ancestors' known, in the object table too. */
  #loadFirstLsns(): void {
    if (this.#ancestor !== null) this.#ancestor.#loadFirstLsns();
    if (this.#firstLsn !== null) return;
    this.#firstLsn = new Float64Array(this.#objects.count).fill(Infinity);
    for (const layer of this.#layers.layers()) {
      layer.reader.forEachObject((slot, lsn) => this.#noteFirstLsn(slot, lsn));
    }
    for (const frozen of this.#frozen) this.#noteFirstLsns(frozen.memory);
  }

  #noteFirstLsns(layer: MemoryLayer): void {
    for (let i = 0; i < layer.objectCount; i++) {
      this.#noteFirstLsn(layer.objectSlot(i), layer.objectFirstLsn(i));
    }
  }

  #noteFirstLsn(slot: number, lsn: number): void {
    let first = this.#firstLsn;
    if (first === null) return;
    if (slot >= first.length) {
      const grown = new Float64Array(Math.max(slot + 1, 2 * first.length)).fill(Infinity);
      grown.set(first);
      this.#firstLsn = first = grown;
    }
    if (lsn < first[slot]!) first[slot] = lsn;
  }

  /** The greatest record start at or below `lsn` in this timeline or an ancestor. */
  #findStart(lsn: number, found: FoundStart): boolean {
    // deno-lint-ignore no-this-alias -- the walk up the ancestors starts here
    let store: TimelineStore | null = this;
    let limit = lsn;
    while (store !== null) {
      if (store.#findOwnStart(limit, found)) return true;
      if (store.ancestorLsn === null) return false;
      // A record that starts at the branch point is the ancestor's alone.
      limit = Math.min(limit, store.ancestorLsn - 1);
      store = store.#ancestor;
    }
    return false;
  }

  #findOwnStart(lsn: number, found: FoundStart): boolean {
    if (this.#open.starts.find(lsn, found)) return true;
    for (let i = this.#frozen.length - 1; i >= 0; i--) {
      if (this.#frozen[i]!.memory.starts.find(lsn, found)) return true;
    }
    return this.#layers.findStart(lsn, found);
  }

  async #oneAtATime<T>(work: () => Promise<T>): Promise<T> {
    assert(!this.#closed, "a closed timeline is not worked on");
    while (this.#merging !== null) await this.#merging.catch(() => undefined);
    const merging = work().finally(() => {
      this.#merging = null;
    });
    this.#merging = merging;
    return await merging;
  }

  async #merge(first: Run, last: Run, retention: Retention): Promise<MergeResult> {
    const { disk, config, reconstruct } = this.#options;
    const runs = this.#layers.runs.slice(
      this.#layers.runs.indexOf(first),
      this.#layers.runs.indexOf(last) + 1,
    );
    const before = runs.flatMap((run) => run.layers);
    const rewriter = new KeyRewriter(
      config?.chainLimits ?? DEFAULT_CHAIN_LIMITS,
      retention,
      reconstruct ?? null,
      (object, block, chain) => this.#collectInto(this.slot(object), block, first.startLsn, -1, chain),
    );
    const entries = await mergeLayers({
      disk,
      directory: this.directory,
      runs,
      rewriter,
      retention,
      newLayerNumber: () => this.#nextLayerNumber++,
      targetBytes: config?.mergedLayerBytes ?? DEFAULT_MERGED_LAYER_BYTES,
      isCancelled: () => this.#closed,
    });
    // From here on there is no await: readers see either the old layers or the new ones.
    const after = entries.map((entry) => this.#diskLayer(entry));
    const layers = this.#layers.replace(first, last, after);
    try {
      this.#writeMetadata(layers, this.#diskConsistentLsn);
    } catch (error) {
      // Either metadata may be the durable one. The new files go when it is sure to be the old.
      for (const { reader } of after) this.#obsolete.push(reader.path);
      throw error;
    }
    this.#layers = layers;
    for (const { reader } of before) this.#remove(reader.path);
    return {
      ...rewriter.counts,
      layersBefore: before.length,
      layersAfter: after.length,
      bytesBefore: totalBytes(before),
      bytesAfter: totalBytes(after),
    };
  }

  #freeze(): void {
    this.#frozen.push({ memory: this.#open, endLsn: this.#lastLsn, written: null });
    this.#noteFirstLsns(this.#open);
    this.#open = new MemoryLayer(this.#lastLsn, this.#options.buffers);
  }

  /** Unless one is under way. #flushing resolves even if the flush fails; #flushError then says why. */
  #startFlush(): void {
    if (this.#flushing !== null || this.#frozen.length === 0 || this.#closed) return;
    this.#flushing = this.#flushFrozen().then(
      () => {
        this.#flushError = null;
        this.#flushing = null;
      },
      (error: unknown) => {
        this.#flushError = error;
        this.#flushFailedMs = this.#options.nowMs();
        this.#flushing = null;
      },
    );
  }

  async #flushFrozen(): Promise<void> {
    while (this.#frozen.length > 0 && !this.#closed) {
      const frozen = this.#frozen[0]!;
      const { memory, endLsn } = frozen;
      if (frozen.written === null && !memory.isEmpty) {
        const { disk, encodeValue } = this.#options;
        // A failed attempt leaves its number unused: what it left on disk can't be taken for another's file.
        const number = this.#nextLayerNumber++;
        const path = layerPath(this.directory, number);
        const written = await flushLayer(
          disk,
          this.directory,
          path,
          memory,
          endLsn,
          this.#objects,
          encodeValue,
        );
        const startLsn = memory.startLsn;
        frozen.written = { ...written, kind: LAYER_DELTA, number, level: 0, startLsn, endLsn };
      }
      const written = frozen.written;
      const layers = written === null ? this.#layers : this.#layers.with(this.#diskLayer(written));
      this.#writeMetadata(layers, endLsn);
      // From here on there is no await: readers see either the frozen layer or the file.
      this.#layers = layers;
      this.#diskConsistentLsn = endLsn as Lsn;
      this.#frozen.shift();
      memory.release();
    }
  }

  /** Afterwards the metadata is durable, and files that it does not name can go. */
  #writeMetadata(layers: LayerMap, diskConsistentLsn: number): void {
    writeMetadata(this.#options.disk, this.directory, {
      ancestorLsn: this.ancestorLsn,
      startLsn: this.startLsn,
      diskConsistentLsn,
      nextLayerNumber: this.#nextLayerNumber,
      retention: this.#retention,
      layers: layers.layers().map((layer) => layer.entry),
      userData: this.userData,
    });
    const obsolete = this.#obsolete;
    this.#obsolete = [];
    for (const path of obsolete) this.#remove(path);
  }

  /** Removes a file that is sure to be in no durable metadata; if that fails, tries again another time. */
  #remove(path: string): void {
    this.#options.cache.closeFile(path);
    try {
      this.#options.disk.unlinkSync(path);
    } catch (error) {
      if (systemErrorCode(error) !== "ENOENT") this.#obsolete.push(path);
    }
  }

  #diskLayer(entry: LayerEntry): DiskLayer {
    const { disk, cache } = this.#options;
    return {
      entry,
      reader: new LayerReader(disk, layerPath(this.directory, entry.number), entry, cache, this.#objects),
    };
  }

  #removeStrayFiles(): void {
    const { disk } = this.#options;
    const known = new Set([basename(metadataPath(this.directory))]);
    for (const layer of this.#layers.layers()) known.add(basename(layer.reader.path));
    try {
      for (const name of disk.readdirSync(this.directory)) {
        // Only what is the store's own: the directory also holds the timeline's WAL.
        const isOurs = name.endsWith(LAYER_SUFFIX) || name.endsWith(TEMPORARY_SUFFIX);
        if (isOurs && !known.has(name)) disk.unlinkSync(`${this.directory}/${name}`);
      }
    } catch (error) {
      throw ioError("clean timeline directory", this.directory, error);
    }
  }
}

/** The directory with its metadata, durable; or, when that fails, none that a later attempt would stumble over. */
function createDirectory(disk: Disk, directory: string, metadata: TimelineMetadata): void {
  const temporary = directory + TEMPORARY_SUFFIX;
  let renamed = false;
  try {
    if (disk.statSync(directory) !== null) {
      throw new ZenithError("already_exists", `can't create a timeline in ${directory}: it exists already`);
    }
    disk.removeTreeSync(temporary);
    disk.mkdirSync(temporary);
    writeMetadata(disk, temporary, metadata);
    disk.renameSync(temporary, directory);
    renamed = true;
    disk.fsyncDirSync(dirname(directory));
  } catch (error) {
    if (renamed) removeBestEffort(disk, directory);
    throw error instanceof ZenithError ? error : ioError("create timeline", directory, error);
  }
}

function removeBestEffort(disk: Disk, directory: string): void {
  try {
    disk.removeTreeSync(directory);
  } catch {
    // The failure that led here is the one to report; an empty timeline that nobody knows of does no harm.
  }
}

/** Whether a chain needs no older version. */
function isEnough(chain: ValueChain, floor: number): boolean {
  return chain.complete || (chain.count > 0 && chain.lsn[chain.count - 1]! <= floor);
}

function totalBytes(layers: readonly DiskLayer[]): number {
  let bytes = 0;
  for (const { entry } of layers) bytes += entry.fileSize;
  return bytes;
}
