/** Defines a timeline store's options and statistics. */
import type { Disk } from "../../common/disk.ts";
import type { BlockCache } from "../layer/block_cache.ts";
import type { LayerFiles } from "../layer/layer_files.ts";
import type { FlushLayer } from "../memory/flush.ts";
import type { ChainLimits, Reconstruct } from "../layer/key_rewriter.ts";
import type { MemoryBudget } from "../memory/memory_budget.ts";
import type { MergeLayers } from "./merge_request.ts";
import type { MemoryPools } from "../memory/memory_layer.ts";

export interface TimelineStoreConfig {
  /**
   * The open memory layer is frozen when it holds this many bytes, WAL buffers included. Default:
   * 64 MiB.
   */
  readonly layerBytes?: number;
  /** It is also frozen when its oldest version is this old. Default: 10 minutes. */
  readonly layerAgeMs?: number;
  /**
   * How many frozen layers may wait for their flush before backpressure stops the writer. Default:
   * 2.
   */
  readonly maxFrozenLayers?: number;
  /** How long after a failed flush the next attempt is made. Default: 1 s. */
  readonly flushRetryMs?: number;
  /**
   * When a memory layer holds this many bytes of consecutive versions of a block, values and rows
   * included, it makes an image of one of them, if {@link StoreOptions.makeImage} is given.
   * Default: 128 KiB. That is some 1,000 changes, more than a page gets while it is being filled.
   */
  readonly memoryChainBytes?: number;
  /** How many runs of layers are merged into one. Default: 4. */
  readonly mergeFanIn?: number;
  /** A merged layer file is closed once it is this long. Default: 64 MiB. */
  readonly mergedLayerBytes?: number;
  /**
   * When a chain of versions gets an image, if {@link StoreOptions.mergeLayers} makes images.
   * Default: 16 versions, 32 KiB.
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
  /** The clock, in milliseconds. Only differences matter. */
  readonly nowMs: () => number;
  /** The cache that all timelines share. */
  readonly cache: BlockCache;
  readonly config?: TimelineStoreConfig;
  /** Where layers are read from; by default, `disk`. */
  readonly layerFiles?: LayerFiles;
  /** The pools that memory comes from. It returns there once a file holds its content. */
  readonly pools?: MemoryPools;
  /**
   * Limits what the memory layers of all timelines may hold together. Without a budget, each
   * timeline is limited only by its own options.
   */
  readonly memoryBudget?: MemoryBudget;
  /**
   * Identifies the format of the values, for {@link flushLayer} and {@link mergeLayers}; 0 when
   * they need not know it. Layer files name the format, and a file that names another one is not
   * read.
   */
  readonly valueFormat?: number;
  /** Writes a layer file. By default, this thread writes it and stores values as they are. */
  readonly flushLayer?: FlushLayer;
  /**
   * Makes images of blocks that are changed again and again. By default, memory layers have no
   * images.
   */
  readonly makeImage?: Reconstruct;
  /** Merges layers. By default, this thread merges them, without making images. */
  readonly mergeLayers?: MergeLayers;
  /**
   * Shared with other threads: element 0 changes with every read, so that merges can give way to
   * reads.
   */
  readonly reads?: Int32Array;
}

export interface StoreSizes {
  /** The bytes of all memory layers, including the WAL buffers that they hold. */
  readonly memoryBytes: number;
  /** The part of {@link memoryBytes} that is frozen and not yet flushed. */
  readonly frozenBytes: number;
  readonly layerBytes: number;
  readonly layerCount: number;
}
