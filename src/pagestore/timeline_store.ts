/**
 * Stores one timeline's versions. An open memory layer takes new versions, frozen layers are being
 * written out, and layer files hold the rest. For versions that a timeline does not have, reads
 * fall through to its ancestor at the branch point.
 *
 * There is one writer and any number of readers. Readers are synchronous and so never see a
 * half-made change.
 */
import { assert } from "../common/assert.ts";
import { ZenithError } from "../common/errors.ts";
import { formatLsn, type Lsn } from "../common/lsn.ts";
import { type Ancestor, Ancestry } from "./ancestry.ts";
import { BulkLayers } from "./files/bulk_layers.ts";
import { FirstLsns } from "./first_lsns.ts";
import type { LsnRange } from "./keys_between.ts";
import { AbsentOnes } from "./layer/absent_bytes.ts";
import type { RebuiltValue } from "./layer/key_rewriter.ts";
import type { LayerReader } from "./layer/layer_reader.ts";
import { LayerUpkeep, type MergeResult, type PinnedHistory } from "./merge/layer_upkeep.ts";
import { MemoryLayers } from "./flush/memory_layers.ts";
import { mergeHere } from "./merge/merge_layers.ts";
import { compareObjects, type ObjectFilter, type ObjectId, ObjectTable } from "./value/object_id.ts";
import type { FoundStart } from "./value/record_starts.ts";
import { KEEP_ALL, Retention } from "./value/retention.ts";
import {
  DEFAULT_CONFIG,
  type StoreOptions,
  type StoreSizes,
  type TimelineStoreConfig,
} from "./files/store_options.ts";
import { TimelineFiles } from "./files/timeline_files.ts";
import type { LayerEntry } from "./files/timeline_metadata.ts";
import { ValueChain } from "./value/value_chain.ts";

export interface TimelineStoreOptions extends StoreOptions {
  /**
   * The timeline that this one branched off from, and the LSN of the branch point. It must stay
   * open as long as this one.
   */
  readonly ancestor?: { readonly store: TimelineStore; readonly lsn: Lsn };
}

/** Keys whose oldest versions are yet to come, from elsewhere. */
export interface AwaitedKeys {
  /** @throws {AbsentBytes} when the oldest version of the block is not here yet */
  check(slot: number, block: number): void;
}

/**
 * How often layers of the base count as merged. They are as old as can be, so younger ones are not
 * merged with them before they come to a good part of their length.
 */
const BASE_LEVEL = 6;

export class TimelineStore {
  readonly ancestorLsn: Lsn | null;
  readonly startLsn: Lsn;

  readonly #options: TimelineStoreOptions;
  readonly #config: Required<TimelineStoreConfig>;
  readonly #objects: ObjectTable;
  readonly #ancestor: TimelineStore | null;
  readonly #files: TimelineFiles;
  readonly #memory: MemoryLayers;
  readonly #upkeep: LayerUpkeep;
  readonly #firstLsns: FirstLsns;
  readonly #reads: Int32Array | null;
  /** null until the first read that goes through to ancestors. */
  #ancestry: Ancestry<TimelineStore> | null = null;

  /**
   * Whether the ancestors are known to retain the branch points that this timeline reads through.
   * They retain those of open branches, so such reads keep working.
   */
  #branchPointKept = false;
  /** Where open branches left this timeline. An LSN may be listed twice. */
  readonly #branchPoints: number[] = [];
  #closed = false;

  /** Null once all versions are here. */
  #awaited: AwaitedKeys | null = null;

  readonly #found: FoundStart = { start: 0, prev: 0 };
  readonly #imageChain = new ValueChain();

  private constructor(files: TimelineFiles, objects: ObjectTable, options: TimelineStoreOptions) {
    this.ancestorLsn = files.ancestorLsn;
    this.startLsn = files.startLsn;
    this.#options = options;
    this.#ancestor = options.ancestor?.store ?? null;
    this.#objects = objects;
    this.#files = files;
    this.#firstLsns = new FirstLsns(objects);
    const config = { ...DEFAULT_CONFIG, ...options.config };
    this.#config = config;
    this.#memory = new MemoryLayers(files, objects, options, config, (layer) => this.#firstLsns.add(layer));
    this.#reads = options.reads ?? null;
    this.#upkeep = new LayerUpkeep({
      files,
      config,
      mergeLayers: options.mergeLayers ?? mergeHere(options.disk),
      valueFormat: options.valueFormat ?? 0,
      reads: this.#reads,
      pinAncestors: () => this.#pinAncestors(),
    });
    this.#forEachBranchPoint((ancestor, lsn) => ancestor.#branchPoints.push(lsn));
  }

  /**
   * Makes the ancestor keep what a branch at `lsn` needs while that branch is being created.
   * @returns a function that ends this
   */
  static #holdBranchPoint(ancestor: TimelineStore, lsn: Lsn): () => void {
    const held = [...branchPoints(ancestor, lsn)];
    for (const [store, limit] of held) store.#branchPoints.push(limit);
    return () => {
      for (const [store, limit] of held) store.#branchPoints.splice(store.#branchPoints.indexOf(limit), 1);
    };
  }

  /**
   * Creates a timeline without versions, readable and durable up to `startLsn`. `directory` appears
   * complete or not at all.
   *
   * @param options.userData small data that is kept as it is and returned as {@link userData}
   * @param options.subdirectories empty directories that the creator wants as well
   * @throws {ZenithError} `already_exists`, `disk_full`, `io`
   */
  static async create(
    directory: string,
    options: TimelineStoreOptions & {
      readonly startLsn: Lsn;
      readonly userData?: Uint8Array;
      readonly subdirectories?: readonly string[];
    },
  ): Promise<TimelineStore> {
    const { ancestor, startLsn } = options;
    if (ancestor !== undefined && ancestor.lsn > ancestor.store.lastLsn) {
      throw new ZenithError(
        "out_of_range",
        `can't branch at ${formatLsn(ancestor.lsn)}: the ancestor ends at ${
          formatLsn(ancestor.store.lastLsn)
        }`,
      );
    }
    if (ancestor !== undefined) ancestor.store.#checkReadable(ancestor.lsn);
    const metadata = {
      retention: KEEP_ALL,
      ancestorLsn: ancestor?.lsn ?? null,
      startLsn,
      diskConsistentLsn: startLsn,
      nextLayerNumber: 1,
      layers: [],
      userData: options.userData ?? new Uint8Array(0),
    };
    const objects = ancestor === undefined ? new ObjectTable() : ancestor.store.#objects;
    const release = ancestor === undefined
      ? () => {}
      : TimelineStore.#holdBranchPoint(ancestor.store, ancestor.lsn);
    try {
      const subdirectories = options.subdirectories ?? [];
      const files = await TimelineFiles.create(directory, metadata, subdirectories, { ...options, objects });
      return new TimelineStore(files, objects, options);
    } finally {
      release();
    }
  }

  /**
   * Opens a timeline as it was last made durable. Files that its metadata does not name remain from
   * a crash and are removed.
   *
   * @throws {ZenithError} `not_found`, `corrupt_data`, `io`
   */
  static async open(directory: string, options: TimelineStoreOptions): Promise<TimelineStore> {
    const { ancestor } = options;
    const objects = ancestor === undefined ? new ObjectTable() : ancestor.store.#objects;
    const files = await TimelineFiles.open(directory, ancestor?.lsn ?? null, { ...options, objects });
    return new TimelineStore(files, objects, options);
  }

  get directory(): string {
    return this.#files.directory;
  }

  /** The data that was given to {@link create}. */
  get userData(): Uint8Array {
    return this.#files.userData;
  }

  /** Everything at or below this LSN can be read. */
  get lastLsn(): Lsn {
    return this.#memory.lastLsn;
  }

  /** Everything at or below this LSN survives a crash. */
  get diskConsistentLsn(): Lsn {
    return this.#files.diskConsistentLsn;
  }

  /** Below this LSN, only some LSNs can be read. */
  get keptFrom(): Lsn {
    return this.#files.retention.cutoff as Lsn;
  }

  // ---- the writer

  /**
   * Returns the object's slot: a small integer that stays the same as long as the process lives,
   * also in the timeline's ancestors and branches.
   */
  slot(object: ObjectId): number {
    return this.#objects.slot(object.kind, object.a, object.b, object.c, object.d);
  }

  object(slot: number): ObjectId {
    return this.#objects.object(slot);
  }

  /**
   * Adds a version of a block. The value stays in `bytes`, which must not change any more. `lsn`
   * must be above {@link lastLsn} and not below that of the last version added. The version can be
   * read after {@link advance}.
   *
   * @param tag 8 bits for the caller's use
   * @param willInit whether the value does not depend on the version before it
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
    this.#memory.open.put(slot, block, lsn, bytes, off, len, tag, willInit);
  }

  /** Like {@link put}, but copies the value. */
  putValue(
    slot: number,
    block: number,
    lsn: number,
    value: Uint8Array,
    tag: number,
    willInit: boolean,
  ): void {
    this.#memory.open.putValue(slot, block, lsn, value, tag, willInit);
  }

  /** The LSN of the newest version that was added, whether or not it can be read yet. */
  get lastPutLsn(): number {
    return this.#memory.open.lastPutLsn;
  }

  /**
   * Takes back what was added above {@link lastLsn} and `lsn`: part of a record that is to be added
   * again.
   */
  takeBack(lsn: number): void {
    assert(lsn >= this.lastLsn, "what can be read is not taken back");
    this.#memory.open.forgetAbove(lsn);
  }

  /**
   * Notes that a WAL record starts here, at or above {@link lastLsn}. A new timeline may begin with
   * records that end at or below its {@link startLsn}. The starts must ascend.
   */
  noteRecord(startLsn: number): void {
    const { open } = this.#memory;
    assert(
      startLsn >= open.startLsn || open.startLsn === this.startLsn,
      "a record starts behind what is readable",
    );
    open.starts.add(startLsn);
  }

  /**
   * Makes everything up to `lsn` readable; all of it must have been added. May start a flush in the
   * background. If the flush fails, {@link ready} reports it, and a later call tries again.
   */
  advance(lsn: Lsn): void {
    assert(!this.#closed, "a closed timeline takes no versions");
    assert(
      lsn >= this.lastLsn && lsn >= this.#memory.open.lastPutLsn,
      "a timeline advances over all that was added",
    );
    this.#memory.advance(lsn);
    this.#endLongChains();
    this.maintain();
  }

  /**
   * Does periodic work: freezes an old memory layer, retries a failed flush. Call it from time to
   * time.
   */
  maintain(): void {
    this.#memory.maintain();
  }

  /** Whether {@link ready} would wait. */
  get congested(): boolean {
    return this.#memory.congested;
  }

  /**
   * Resolves when the writer may continue: when not too many frozen layers wait for their flush.
   *
   * @throws the error of the last flush, while it keeps too many layers waiting;
   *   {@link ZenithError} `unavailable` when the store is closed
   */
  ready(): Promise<void> {
    return this.#memory.ready();
  }

  /**
   * Makes everything up to {@link lastLsn} durable.
   *
   * @throws {ZenithError} `disk_full`, `io`: nothing is lost, and another call tries again;
   *   `conflict` when versions have been added beyond the last {@link advance}; `unavailable` when
   *   the store is closed meanwhile
   */
  async flush(): Promise<void> {
    assert(!this.#closed, "a closed timeline can't be flushed");
    await this.#memory.flush();
  }

  /**
   * Begins layer files for a single record whose versions are too much for memory. All its versions
   * are at `lsn`. Everything before is made durable first. Add no other versions until
   * {@link install}, or until the files are aborted.
   *
   * @throws {ZenithError} as {@link flush}
   */
  async startBulk(lsn: Lsn, recordStart: Lsn): Promise<BulkLayers> {
    await this.flush();
    return new BulkLayers({
      disk: this.#options.disk,
      files: this.#files,
      targetBytes: this.#config.mergedLayerBytes,
      startLsn: this.lastLsn,
      lsn,
      recordStart,
    });
  }

  /**
   * Adds the files of {@link startBulk}, durably. They must be complete. Everything up to their LSN
   * becomes readable at one moment.
   *
   * @throws {ZenithError} `disk_full`, `io`: nothing of the record is stored then
   */
  async install(bulk: BulkLayers): Promise<void> {
    const lsn = bulk.lsn as Lsn;
    const layers = bulk.entries.map((entry) => this.#files.diskLayer(entry));
    try {
      await this.#files.commit((before) => before.with(...layers), lsn, () => this.#memory.skipTo(lsn));
    } catch (error) {
      this.#files.removeAfterNextCommit(layers);
      throw error;
    }
    this.#firstLsns.addFiles(layers);
  }

  // ---- versions that come later

  /**
   * Says that oldest versions of some blocks are yet to come, by {@link installBase}. Until
   * {@link endBase}, a read that needs one throws what `keys` throws, and no layers are merged,
   * here and in branches: merges read what is in files.
   */
  awaitBase(keys: AwaitedKeys): void {
    assert(this.#ancestor === null, "only what has no ancestor begins with versions that come later");
    this.#awaited = keys;
  }

  /**
   * Begins layer files with versions that are older than all others. They are at the first LSN
   * after {@link startLsn}, where nothing else may be. Any number of files may be under way.
   */
  startBase(): BulkLayers {
    const lsn = this.startLsn + 1;
    return new BulkLayers({
      disk: this.#options.disk,
      files: this.#files,
      targetBytes: this.#config.mergedLayerBytes,
      startLsn: this.startLsn,
      lsn,
      recordStart: null,
      level: BASE_LEVEL,
      // There is one version of each key, so garbage is not looked for.
      givenUp: { cutoff: lsn, points: 0 },
    });
  }

  /**
   * Adds the files of {@link startBase}, durably. They must be complete, and have keys that no file
   * of the base has. The first ones must come before all other versions.
   *
   * @throws {ZenithError} `disk_full`, `io`: nothing of the files is stored then
   */
  async installBase(bulk: BulkLayers): Promise<void> {
    const lsn = bulk.lsn as Lsn;
    const layers = bulk.entries.map((entry) => this.#files.diskLayer(entry));
    const isFirst = this.diskConsistentLsn < lsn;
    try {
      await this.#files.commit((before) => before.withOldest(...layers), isFirst ? lsn : null, () => {
        if (isFirst) this.#memory.skipTo(lsn);
      });
    } catch (error) {
      this.#files.removeAfterNextCommit(layers);
      throw error;
    }
    this.#firstLsns.addFiles(layers);
  }

  /**
   * Ends what {@link awaitBase} has begun: all versions are here.
   *
   * @param userData takes the place of what is kept with the timeline
   * @throws {ZenithError} `disk_full`, `io`
   */
  async endBase(userData: Uint8Array): Promise<void> {
    this.#files.userData = userData;
    await this.#files.commit((layers) => layers);
    this.#awaited = null;
  }

  /** Whether versions are yet to come, here or where this timeline comes from. */
  get #isAwaiting(): boolean {
    // deno-lint-ignore no-this-alias -- the walk up the ancestors starts here
    let root: TimelineStore = this;
    while (root.#ancestor !== null) root = root.#ancestor;
    return root.#awaited !== null;
  }

  // ---- upkeep, in the background

  /**
   * Merges layers if that is due, so that reads look in fewer places and find shorter chains. It
   * gives way to other work all the time.
   *
   * @returns what the merge did; null when nothing was due
   * @throws {ZenithError} `disk_full`, `io`, `corrupt_data`, and what reconstruct throws: nothing
   *   has changed then
   */
  compact(): Promise<MergeResult | null> {
    if (this.#isAwaiting) return Promise.resolve(null);
    return this.#upkeep.compact();
  }

  /**
   * Removes versions that no read needs: not at or above `cutoff`, not at one of `points` (leases,
   * and branches that are not open now), and not through an open branch. Other LSNs can't be read
   * from now on, even if this fails.
   *
   * @returns what was done; null when layers held nothing below the cutoff
   * @throws {ZenithError} as {@link compact}
   */
  collectGarbage(cutoff: Lsn, points: readonly Lsn[]): Promise<MergeResult | null> {
    const { retention } = this.#files;
    const limit = Math.max(retention.cutoff, Math.min(cutoff, this.diskConsistentLsn));
    const kept = [...points, ...this.#branchPoints].filter((point) => retention.keeps(point));
    // Set this at once, before a running merge ends: a new branch must not start where versions are
    // being removed.
    this.#files.retention = new Retention(limit, kept);
    if (this.#isAwaiting) return Promise.resolve(null);
    return this.#upkeep.collectGarbage();
  }

  // ---- readers

  /**
   * Fills `chain` with the versions of a block that are needed to rebuild it at `lsn`, newest
   * first, down to and including one that needs no earlier one. The chain is empty when the block
   * has no version.
   *
   * @param floor the chain also ends with a version at or below this LSN, for a caller that knows
   *   the block as of then
   * @throws {ZenithError} `out_of_range` when that LSN is not kept any more, `corrupt_data`, `io`
   */
  collect(slot: number, block: number, lsn: number, chain: ValueChain, floor = -1): void {
    chain.clear();
    this.#checkReadable(lsn);
    if (this.#reads !== null) this.#reads[0]++;
    this.#collectAll(slot, block, lsn, floor, chain);
  }

  /**
   * Like {@link collect}, for a block that nobody is expected to read again soon. It leaves others
   * what they have in the cache.
   */
  collectOnce(slot: number, block: number, lsn: number, chain: ValueChain, floor = -1): void {
    this.#options.cache.readOnce(() => this.collect(slot, block, lsn, chain, floor));
  }

  #collectAll(slot: number, block: number, lsn: number, floor: number, chain: ValueChain): void {
    this.#collectOwn(slot, block, lsn, floor, chain);
    if (this.#ancestor !== null && !chain.reaches(floor)) {
      this.#collectFromAncestors(slot, block, lsn, floor, chain);
    }
  }

  #collectFromAncestors(slot: number, block: number, lsn: number, floor: number, chain: ValueChain): void {
    const ancestry = this.#ancestry ??= this.#findAncestry();
    const filter = ancestry.filter();
    const { ancestors } = ancestry;
    for (
      let i = ancestry.next(filter, slot, block, 0);
      i >= 0;
      i = ancestry.next(filter, slot, block, i + 1)
    ) {
      const { store, limit } = ancestors[i];
      store.#collectOwn(slot, block, Math.min(lsn, limit), floor, chain);
      if (chain.reaches(floor)) return;
    }
  }

  #findAncestry(): Ancestry<TimelineStore> {
    const ancestors: Ancestor<TimelineStore>[] = [];
    this.#forEachBranchPoint((store, limit) => ancestors.push({ store, limit }));
    return new Ancestry(ancestors, this.#options.cache);
  }

  /** Returns an upper bound of the number of keys, for {@link Ancestry}. */
  keyCount(): number {
    // Those that are yet to come are not counted, and may be any.
    if (this.#awaited !== null) return Infinity;
    let keys = this.#memory.entryCount();
    const absent = new AbsentOnes();
    for (const { reader } of this.#files.layers.layers()) keys += absent.try(() => reader.keyCount()) ?? 0;
    absent.check();
    return keys;
  }

  /**
   * Visits every key that has versions here, some perhaps more than once. @throws {ZenithError}
   * `corrupt_data`, `io`
   */
  forEachKey(visit: (slot: number, block: number) => void): void {
    this.#memory.forEachKey(visit);
    for (const { reader } of this.#files.layers.layers()) reader.forEachKey(visit);
  }

  /**
   * Holds the files that may have versions in the range, oldest first. They stay until the result
   * is disposed of. What is in memory is written out first.
   *
   * @throws {ZenithError} as {@link flush}; `conflict` when the range has oldest versions that are
   *   not all here
   */
  async holdLayers(
    { after, upTo }: LsnRange,
  ): Promise<Disposable & { readonly readers: readonly LayerReader[] }> {
    if (this.#awaited !== null && after <= this.startLsn) {
      throw new ZenithError("conflict", `${this.directory} begins with a backup that is not all copied yet`, {
        hint: '"zenith follow list" says how much is left',
      });
    }
    if (this.diskConsistentLsn < Math.min(upTo, this.lastLsn)) await this.flush();
    this.#files.pin();
    const runs = this.#files.layers.runs.filter((run) => run.startLsn < upTo && run.endLsn > after);
    return {
      readers: runs.flatMap((run) => run.layers.map(({ reader }) => reader)),
      [Symbol.dispose]: () => this.#files.unpin(),
    };
  }

  async #pinAncestors(): Promise<PinnedHistory> {
    const ancestry = this.#ancestry ??= this.#findAncestry();
    const { ancestors } = ancestry;
    for (const { store, limit } of ancestors) {
      if (store.diskConsistentLsn < Math.min(limit, store.lastLsn)) await store.flush();
    }
    for (const { store } of ancestors) store.#files.pin();
    return {
      parts: ancestors.map(({ store, limit }) => ({
        directory: store.directory,
        layers: store.#files.layers.layers().map((layer) => layer.entry),
        limit,
      })),
      unpin: () => {
        for (const { store } of ancestors) store.#files.unpin();
      },
    };
  }

  /**
   * Returns every object that has a version here at or below `lsn`, or in an ancestor up to the
   * branch point, even if it was deleted since. The objects are in ascending order.
   *
   * @throws {ZenithError} `corrupt_data`, `io`
   */
  objects(filter: ObjectFilter, lsn: number = this.lastLsn): ObjectId[] {
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
   * Returns the greatest record start at or below `lsn`, and the start before that one; null when
   * the history does not have both, or `lsn` is not kept any more.
   *
   * @throws {ZenithError} `corrupt_data`, `io`
   */
  recordBoundary(lsn: Lsn): { start: Lsn; prev: Lsn } | null {
    const found = this.#found;
    if (this.#lostReadable(lsn) !== null || !this.#findStart(lsn, found)) return null;
    const start = found.start;
    if (found.prev < 0) {
      // The start is the first one in its place, so the one before it is the last one of an older
      // place.
      if (!this.#findStart(start - 1, found)) return null;
      return { start: start as Lsn, prev: found.start as Lsn };
    }
    return { start: start as Lsn, prev: found.prev as Lsn };
  }

  /** Waits for a running flush and releases the files. Unflushed versions are lost. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#memory.close();
    await this.#upkeep.close();
    this.#files.close();
    this.#forEachBranchPoint((ancestor, lsn) => {
      ancestor.#branchPoints.splice(ancestor.#branchPoints.indexOf(lsn), 1);
    });
  }

  sizes(): StoreSizes {
    const frozenBytes = this.#memory.frozenBytes();
    let layerBytes = 0;
    let layerCount = 0;
    for (const run of this.#files.layers.runs) {
      layerBytes += run.sizeBytes;
      layerCount += run.layers.length;
    }
    return {
      memoryBytes: this.#memory.open.memoryBytes + frozenBytes,
      frozenBytes,
      layerBytes,
      layerCount,
    };
  }

  /** Collects the versions of this timeline itself. */
  #collectOwn(slot: number, block: number, lsn: number, floor: number, chain: ValueChain): void {
    if (lsn <= this.startLsn) return;
    this.#memory.collect(slot, block, lsn, floor, chain);
    if (!chain.reaches(floor)) this.#files.layers.collect(slot, block, lsn, floor, chain, this.#objects);
    if (this.#awaited !== null && !chain.reaches(floor)) this.#awaited.check(slot, block);
  }

  /**
   * Visits each ancestor with the LSN at which this timeline reads from it. A branch may have left
   * below the point where its own ancestor began.
   */
  #forEachBranchPoint(visit: (ancestor: TimelineStore, lsn: number) => void): void {
    for (const [store, lsn] of branchPoints(this.#ancestor, this.ancestorLsn)) visit(store, lsn);
  }

  /** The timeline that this one branched off from. */
  get ancestor(): TimelineStore | null {
    return this.#ancestor;
  }

  /** As {@link layers}, with how much of each is in the block cache. */
  layersWithCached(): readonly { readonly entry: LayerEntry; readonly cachedBytes: number }[] {
    const cached = this.#options.cache.bytesByLayer();
    return this.#files.layers.layers().map(({ entry, reader }) => ({
      entry,
      cachedBytes: reader.cachedBytes(cached),
    }));
  }

  /** Lists the timeline's layer files, oldest first. */
  layers(): readonly LayerEntry[] {
    return this.#files.layers.layers().map(({ entry }) => entry);
  }

  /** @throws {ZenithError} `out_of_range` unless a read at `lsn` still gives what it always gave */
  #checkReadable(lsn: number): void {
    const by = this.#lostReadable(lsn);
    if (by === null) return;
    throw new ZenithError(
      "out_of_range",
      `LSN ${formatLsn(lsn as Lsn)} is not kept any more: history begins at ${
        formatLsn(by.#files.retention.cutoff as Lsn)
      }`,
    );
  }

  /**
   * Returns a timeline that has removed versions which a read at `lsn` needs: this one, or one that
   * the read falls through to. Returns null when there is none.
   */
  #lostReadable(lsn: number): TimelineStore | null {
    if (!this.#files.retention.keeps(lsn)) return this;
    if (this.#ancestor === null || this.ancestorLsn === null) return null;
    const throughBranchPoint = lsn >= this.ancestorLsn;
    if (throughBranchPoint && this.#branchPointKept) return null;
    const lost = this.#ancestor.#lostReadable(Math.min(lsn, this.ancestorLsn));
    if (throughBranchPoint) this.#branchPointKept = lost === null;
    return lost;
  }

  #firstLsnOf(slot: number): number {
    return Math.min(this.#firstLsns.of(slot), this.#memory.open.firstLsnOf(slot));
  }

  /** Makes the objects of this timeline and its ancestors known, in the object table as well. */
  #loadFirstLsns(): void {
    // deno-lint-ignore no-this-alias -- the walk up the ancestors starts here
    for (let store: TimelineStore | null = this; store !== null; store = store.#ancestor) {
      store.#firstLsns.load(store.#files.layers, store.#memory.frozen);
    }
  }

  /** Finds the greatest record start at or below `lsn` in this timeline or an ancestor. */
  #findStart(lsn: number, found: FoundStart): boolean {
    // deno-lint-ignore no-this-alias -- the walk up the ancestors starts here
    let store: TimelineStore | null = this;
    let limit = lsn;
    while (store !== null) {
      if (store.#findOwnStart(limit, found)) return true;
      if (store.ancestorLsn === null) return false;
      // A record that starts at the branch point belongs to the ancestor alone.
      limit = Math.min(limit, store.ancestorLsn - 1);
      store = store.#ancestor;
    }
    return false;
  }

  #findOwnStart(lsn: number, found: FoundStart): boolean {
    return this.#memory.findStart(lsn, found) || this.#files.layers.findStart(lsn, found);
  }

  /**
   * Limits how much a read at any LSN goes through in the open memory layer. Each change of a hot
   * page is then applied once, while it is ingested. Otherwise a reader would have to begin with
   * the first change and keep everybody else waiting.
   */
  #endLongChains(): void {
    const { makeImage } = this.#options;
    if (makeImage === undefined) return;
    for (const long of this.#memory.open.takeLongChains()) {
      const { slot, block, lsn } = long;
      let image: RebuiltValue | null;
      try {
        this.#imageChain.clear();
        this.#collectAll(slot, block, lsn, -1, this.#imageChain);
        image = makeImage(this.#objects.object(slot), block, lsn, this.#imageChain);
      } catch (error) {
        // A reader of the block gets the error. Without the image, nothing is worse than before.
        if (error instanceof ZenithError) continue;
        throw error;
      }
      if (image !== null) this.#memory.open.putImage(long, image);
    }
  }
}

/** Yields where a branch of `ancestor` at `lsn` reads from it and, in turn, from its ancestors. */
function* branchPoints(ancestor: TimelineStore | null, lsn: Lsn | null): Iterable<[TimelineStore, number]> {
  let limit = lsn;
  for (let store = ancestor; store !== null && limit !== null; store = store.ancestor) {
    yield [store, limit];
    limit = store.ancestorLsn === null ? null : Math.min(limit, store.ancestorLsn) as Lsn;
  }
}
