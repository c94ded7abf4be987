/**
 * Keeps what a page server has of layers on its disk within a budget. What the object store has can
 * be removed here: whole files of layers, and chunks. What was not read for the longest time goes
 * first. What is not uploaded stays; when that alone fills the budget, no more WAL is taken in.
 */
import type { TenantId, TimelineId } from "../../common/id.ts";
import type { Logger } from "../../process/log.ts";
import type { LayerRoom } from "../timeline/layer_room.ts";
import type { RemoteLayer } from "../timeline/remote_layer_list.ts";
import type { RemoteLayers, TimelineLayers } from "./remote_layers.ts";

/** Chunks always get this much: what is being read must not push itself out. */
const CHUNKS_MIN_BYTES = 16 << 20;
/** Once the budget is reached, so much of it is emptied at once. */
const EMPTIED_SHARE = 1 / 16;

/** A tenant whose layers count. */
export interface BudgetTenant {
  readonly tenantId: TenantId;
  /** The layers that the store has for certain, by timeline. */
  readonly uploaded: ReadonlyMap<TimelineId, readonly RemoteLayer[]>;
  /** The bytes of layers that are only here. */
  readonly pendingBytes: number;
}

/** What is on the disk, in bytes. */
export interface LayerUse {
  /** Parts of layers that were fetched. */
  readonly chunkBytes: number;
  /** Whole files of layers that the store has, too. */
  readonly uploadedBytes: number;
  readonly pendingBytes: number;
}

/** Something that can be removed. */
interface Candidate {
  readonly usedMs: number;
  readonly bytes: number;
  /** Null for a chunk. */
  readonly file: { readonly timeline: TimelineLayers; readonly layer: RemoteLayer } | null;
  readonly chunk: { readonly layer: string; readonly chunk: number } | null;
}

export class LayerBudget {
  readonly #layers: RemoteLayers;
  readonly #room: LayerRoom;
  readonly #budgetBytes: number;
  readonly #nowMs: () => number;
  readonly #logger: Logger;

  /** @param budgetBytes Infinity when there is none */
  constructor(
    layers: RemoteLayers,
    room: LayerRoom,
    budgetBytes: number,
    nowMs: () => number,
    logger: Logger,
  ) {
    this.#layers = layers;
    this.#room = room;
    this.#budgetBytes = budgetBytes;
    this.#nowMs = nowMs;
    this.#logger = logger;
  }

  get isLimited(): boolean {
    return this.#budgetBytes !== Infinity;
  }

  get isFull(): boolean {
    return this.#room.isFull;
  }

  use(tenants: Iterable<BudgetTenant>): LayerUse {
    let uploadedBytes = 0;
    let pendingBytes = 0;
    for (const tenant of tenants) {
      pendingBytes += tenant.pendingBytes;
      for (const { bytes } of this.#files(tenant)) uploadedBytes += bytes;
    }
    return { chunkBytes: this.#layers.cache.bytes, uploadedBytes, pendingBytes };
  }

  /** Removes what is over the budget. Only one call at a time. @throws {ZenithError} `io` */
  async enforce(tenants: readonly BudgetTenant[]): Promise<void> {
    if (!this.isLimited) return;
    const { cache } = this.#layers;
    const files = tenants.flatMap((tenant) => this.#files(tenant));
    const pendingBytes = tenants.reduce((sum, tenant) => sum + tenant.pendingBytes, 0);
    let uploadedBytes = files.reduce((sum, { bytes }) => sum + bytes, 0);
    let excess = cache.bytes + uploadedBytes + pendingBytes - this.#budgetBytes;
    if (excess > 0) {
      excess += this.#budgetBytes * EMPTIED_SHARE;
      const chunks = cache.byAge().map((chunk): Candidate => ({
        usedMs: chunk.usedMs,
        bytes: chunk.bytes,
        file: null,
        chunk,
      }));
      const evicted = new Map<TimelineLayers, RemoteLayer[]>();
      let chunkBytes = cache.bytes;
      for (const { bytes, file, chunk } of [...files, ...chunks].sort((a, b) => a.usedMs - b.usedMs)) {
        if (excess <= 0) break;
        if (chunk !== null) {
          if (chunkBytes <= CHUNKS_MIN_BYTES) continue;
          cache.drop(chunk.layer, chunk.chunk);
          chunkBytes -= bytes;
        } else if (file !== null) {
          const some = evicted.get(file.timeline) ?? [];
          evicted.set(file.timeline, some);
          some.push(file.layer);
          uploadedBytes -= bytes;
        }
        excess -= bytes;
      }
      for (const [timeline, layers] of evicted) await timeline.evict(layers);
    }
    cache.limit(Math.max(CHUNKS_MIN_BYTES, this.#budgetBytes - uploadedBytes - pendingBytes));
    this.#setFull(pendingBytes > this.#budgetBytes, pendingBytes);
  }

  #setFull(isFull: boolean, pendingBytes: number): void {
    if (!this.#room.setFull(isFull)) return;
    if (!isFull) return this.#logger.info("layers were uploaded: WAL is taken in again");
    this.#logger.warn("layers that are not uploaded fill the disk budget: no more WAL is taken in", {
      pending_bytes: pendingBytes,
      budget_bytes: this.#budgetBytes,
    });
  }

  /** The files of layers that the store has, too. One that was never read counts as new. */
  #files({ tenantId, uploaded }: BudgetTenant): Candidate[] {
    const found: Candidate[] = [];
    for (const [id, layers] of uploaded) {
      const timeline = this.#layers.of(tenantId, id);
      for (const layer of layers) {
        if (timeline.remote.has(layer.number)) continue;
        const usedMs = timeline.usedMs.get(layer.number) ?? this.#nowMs();
        timeline.usedMs.set(layer.number, usedMs);
        found.push({ usedMs, bytes: layer.sizeBytes, file: { timeline, layer }, chunk: null });
      }
    }
    return found;
  }
}
