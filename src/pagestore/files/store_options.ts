/** A timeline store's options and statistics. */
import type { Disk } from "../../common/disk.ts";
import type { BlockCache } from "../layer/block_cache.ts";
import type { FlushLayer } from "../memory/flush.ts";
import type { ChainLimits, Reconstruct } from "../layer/key_rewriter.ts";
import type { MemoryBudget } from "../memory/memory_budget.ts";
import type { MergeLayers } from "./merge_request.ts";
import type { MemoryPools } from "../memory/memory_layer.ts";

export interface TimelineStoreConfig {
  /**
   * The open memory layer is frozen when it holds this many bytes, WAL buffers included. Default 64
   * MiB.
   */
  readonly layerBytes?: number;
  /** … or when its oldest version is this old. Default 10 minutes. */
  readonly layerAgeMs?: number;
  /**
   * Frozen layers that may wait for their flush before backpressure stops the writer. Default 2.
   */
  readonly maxFrozenLayers?: number;
  /** How long after a failed flush the next attempt is made. Default 1 s. */
  readonly flushRetryMs?: number;
  /**
   * How many bytes of consecutive versions of a block a memory layer holds, values and rows
   * included, before it makes an image of one, if {@link StoreOptions.makeImage} is given. Default
   * 128 KiB: some 1,000 changes, more than a page gets while it is being filled.
   */
  readonly memoryChainBytes?: number;
  /** How many runs of layers are merged into one. Default 4. */
  readonly mergeFanIn?: number;
  /** A merged layer file is closed when it is this long. Default 64 MiB. */
  readonly mergedLayerBytes?: number;
  /**
   * When a chain of versions gets an image, if {@link StoreOptions.mergeLayers} makes images.
   * Default 16, 32 KiB.
   */
  readonly chainLimits?: ChainLimits;
}

export const DEFAULT_CONFIG: Required<TimelineStoreConfig> = {
  layerBytes: 64 << 20,
  layerAgeMs: 10 * 60 * 1000,
  maxFrozenLayers: 2,
  flushRetryMs: 1000,
  memoryChainBytes: 128 << 10,
  mergeFanIn: 4,
  mergedLayerBytes: 64 << 20,
  chainLimits: { maxVersions: 16, maxBytes: 32 << 10 },
};

export interface StoreOptions {
  readonly disk: Disk;
  /** The clock, in milliseconds; only differences matter. */
  readonly nowMs: () => number;
  /** Shared by all timelines. */
  readonly cache: BlockCache;
  readonly config?: TimelineStoreConfig;
  /** Where memory comes from, and goes back to when a file holds what it held. */
  readonly pools?: MemoryPools;
  /**
   * What the memory layers of all timelines may hold together; without one, each is bounded by its
   * own configuration only.
   */
  readonly memoryBudget?: MemoryBudget;
  /**
   * What kind of values these are, passed on to {@link flushLayer} and {@link mergeLayers}; 0 when
   * they need not know. Layer files name it, and a file that names another kind is not read.
   */
  readonly valueFormat?: number;
  /** Writes a layer file. Default: in this thread, values as they are. */
  readonly flushLayer?: FlushLayer;
  /**
   * Makes images of blocks that are changed again and again. Default: there are none in memory
   * layers.
   */
  readonly makeImage?: Reconstruct;
  /** Merges layers. Default: in this thread, without images. */
  readonly mergeLayers?: MergeLayers;
  /** Shared with other threads: element 0 changes with every read, for merges to give way to. */
  readonly reads?: Int32Array;
}

export interface StoreSizes {
  /** All memory layers, the WAL buffers they hold included. */
  readonly memoryBytes: number;
  /** The part of it that is frozen and not yet flushed. */
  readonly frozenBytes: number;
  readonly layerBytes: number;
  readonly layerCount: number;
}
