/** The LSN-versioned key-value store: what the rest of Zenith uses of it. */
export { BlockCache } from "./block_cache.ts";
export { dumpLayer } from "./dump_layer.ts";
export { checkTimeline, type TimelineCheck } from "./fsck.ts";
export { compareObjects, formatObject, type ObjectFilter, type ObjectId, SIZE_BLOCK } from "./object_id.ts";
export type { ChainLimits, RebuiltValue, Reconstruct } from "./key_rewriter.ts";
export { isTimelineDirectory, readMetadata, type TimelineMetadata } from "./timeline_metadata.ts";
export {
  type EncodedValue,
  type EncodeValue,
  flushHere,
  type FlushLayer,
  flushLayer,
  type FlushRequest,
} from "./flush.ts";
export type { WrittenLayer } from "./layer_writer.ts";
export { MemoryBudget } from "./memory_budget.ts";
export { mergeHere, mergeLayers } from "./merge_layers.ts";
export { pacedMerge } from "./merge_pace.ts";
export type { MergeLayers, MergeReply, MergeRequest } from "./merge_request.ts";
export type { MemoryPools } from "./memory_layer.ts";
export type { MergeResult } from "./layer_upkeep.ts";
export type { StoreSizes, TimelineStoreConfig } from "./store_options.ts";
export { TimelineStore, type TimelineStoreOptions } from "./timeline_store.ts";
export { ValueChain } from "./value_chain.ts";
export { VERSION_PIECE_BYTES } from "./version_table.ts";
