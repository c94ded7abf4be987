/** The parts of a page server that all of its tenants share. */
import type { Disk } from "../../common/disk.ts";
import type { TenantId, TimelineId } from "../../common/id.ts";
import type { Logger } from "../../process/log.ts";
import type { PageServerConfig } from "../../common/page_server_config.ts";
import type { PageServerPaths } from "../../common/paths.ts";
import type {
  BlockCache,
  FlushLayer,
  LayerFiles,
  MemoryBudget,
  MemoryPools,
  MergeLayers,
  TimelineStoreOptions,
} from "../../pagestore/mod.ts";
import type { PageCache } from "../content/page_cache.ts";
import type { PgVersion } from "../../postgres/versions/pg_version.ts";
import { pageImages } from "../content/rebuild_page.ts";
import type { LayerRoom } from "../timeline/layer_room.ts";
import type { DeletedTenants } from "./deleted_tenants.ts";
import type { DeletedTimelines } from "./deleted_timelines.ts";

/** What all tenants of a page server share. */
export interface TenantContext {
  readonly disk: Disk;
  readonly paths: PageServerPaths;
  readonly config: PageServerConfig;
  readonly blockCache: BlockCache;
  readonly pageCache: PageCache;
  /** The buffers for chunks of WAL, in which values live. */
  readonly memoryPools: MemoryPools;
  readonly memoryBudget: MemoryBudget;
  readonly flushLayer: FlushLayer;
  readonly mergeLayers: MergeLayers;
  /** Where a timeline's layers are read from. Null when they are all on this disk. */
  readonly layerFiles: ((tenant: TenantId, timeline: TimelineId) => LayerFiles) | null;
  readonly layerRoom: LayerRoom;
  /** Shared with other threads. Element 0 changes with every read. */
  readonly reads: Int32Array;
  readonly deleted: DeletedTimelines;
  readonly deletedTenants: DeletedTenants;
  readonly logger: Logger;
}

/** Returns how a page server stores a timeline that is in use. */
export function timelineOptions(
  context: TenantContext,
  pg: PgVersion,
  tenant: TenantId,
  timeline: TimelineId,
): TimelineStoreOptions {
  const layerFiles = context.layerFiles?.(tenant, timeline);
  return { ...storeOptions(context, pg), ...(layerFiles === undefined ? {} : { layerFiles }) };
}

/** Returns how a page server stores timelines of a major. */
export function storeOptions(context: TenantContext, pg: PgVersion): TimelineStoreOptions {
  return {
    disk: context.disk,
    nowMs: Date.now,
    cache: context.blockCache,
    // One layer is filled while another one is written out.
    config: { layerBytes: context.config.checkpoint_distance_bytes, maxFrozenLayers: 1 },
    pools: context.memoryPools,
    memoryBudget: context.memoryBudget,
    flushLayer: context.flushLayer,
    valueFormat: pg.major,
    makeImage: pageImages(pg),
    mergeLayers: context.mergeLayers,
    reads: context.reads,
  };
}
