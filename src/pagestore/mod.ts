/** The interface of the LSN-versioned key-value store to the rest of Zenith. */
export { AbsentBytes, AbsentOnes, presentIn, whenPresent } from "./layer/absent_bytes.ts";
export { BlockCache } from "./layer/block_cache.ts";
export { isMissing, type LayerFile, type LayerFiles, localLayers } from "./layer/layer_files.ts";
export type { BulkLayers } from "./files/bulk_layers.ts";
export { dumpLayer } from "./files/dump_layer.ts";
export { checkTimeline, scrubTimeline, type TimelineCheck } from "./files/fsck.ts";
export {
  compareKeys,
  compareObjects,
  formatObject,
  type Key,
  type ObjectFilter,
  type ObjectId,
  SIZE_BLOCK,
} from "./value/object_id.ts";
export { forEachKeyBetween, type LsnRange } from "./keys_between.ts";
export type { ChainLimits, RebuiltValue, Reconstruct } from "./layer/key_rewriter.ts";
export {
  changeMetadata,
  decodeMetadata,
  hasAllLayers,
  isLayerFile,
  isTimelineDirectory,
  type LayerEntry,
  layerPath,
  METADATA_FILE,
  metadataPath,
  readMetadata,
  type TimelineMetadata,
} from "./files/timeline_metadata.ts";
export {
  type EncodedValue,
  type EncodeValue,
  flushHere,
  type FlushLayer,
  flushLayer,
  type FlushRequest,
} from "./memory/flush.ts";
export type { WrittenLayer } from "./layer/layer_writer.ts";
export { MemoryBudget } from "./memory/memory_budget.ts";
export { mergeHere, mergeLayers } from "./merge/merge_layers.ts";
export { pacedMerge } from "./merge/merge_pace.ts";
export type { MergeLayers, MergeReply, MergeRequest } from "./files/merge_request.ts";
export type { MemoryPools } from "./memory/memory_layer.ts";
export type { MergeResult } from "./merge/layer_upkeep.ts";
export type { StoreSizes, TimelineStoreConfig } from "./files/store_options.ts";
export { type AwaitedKeys, TimelineStore, type TimelineStoreOptions } from "./timeline_store.ts";
export { Retention } from "./value/retention.ts";
export { ValueChain } from "./value/value_chain.ts";
export { VERSION_PIECE_BYTES } from "./memory/version_table.ts";
