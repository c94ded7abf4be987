/**
 * Uploads one tenant: WAL every moment, and what its directory has whenever that changes. The order
 * is layers, indexes, manifest; the manifest makes them valid, and only then is anything removed.
 */
import type { Disk } from "../../common/disk.ts";
import { errorMessage, systemErrorCode, ZenithError } from "../../common/errors.ts";
import { forEachOf } from "../../common/for_each_of.ts";
import type { TenantId, TimelineId } from "../../common/id.ts";
import type { Lsn } from "../../common/lsn.ts";
import { OneAtATime } from "../../common/one_at_a_time.ts";
import type { PageServerPaths } from "../../common/paths.ts";
import { encodeSmallFile } from "../../common/small_file.ts";
import type { ObjectStore } from "../../object_store/object_store.ts";
import { decodeMetadata, type LayerEntry, layerPath, type TimelineMetadata } from "../../pagestore/mod.ts";
import { segmentStart } from "../../postgres/wal/page_header.ts";
import type { Logger } from "../../process/log.ts";
import type { TenantTimelines } from "../tenant/timelines.ts";
import type { Timeline } from "../timeline/timeline.ts";
import { Generations } from "./generations.ts";
import { compareVersions, TenantKeys } from "./keys.ts";
import { uploadFile } from "./layer_upload.ts";
import { type LocalTenant, TenantDirectory } from "./local_tenant.ts";
import { INDEX_FORMAT, type Manifest, type ManifestTimeline, type UploadedLayer } from "./manifest.ts";
import { encodeManifest, readRemoteState } from "./remote_state.ts";
import { DEFAULT_SEGMENT_BYTES, uploadedIndex, UploadedTenant } from "./uploaded_tenant.ts";

export interface TenantUploadParts {
  readonly tenantId: TenantId;
  readonly timelines: TenantTimelines;
  /** Whether a timeline was deleted on purpose. */
  readonly isDeleted: (timeline: TimelineId) => boolean;
  readonly store: ObjectStore;
  readonly disk: Disk;
  readonly paths: PageServerPaths;
  readonly logger: Logger;
  /** How long objects stay that nothing needs any more. */
  readonly deletionDelayMs: number;
  /** The same for WAL of a timeline that goes on. */
  readonly walRetentionMs: number;
  readonly nowMs: () => number;
}

/** How many timelines' WAL is uploaded at the same time. */
const WAL_UPLOADS = 4;
/** How many times a manifest is tried while new timelines keep coming. */
const MANIFEST_ATTEMPTS = 5;

export interface UploadStatus {
  /** Null before the tenant's generation has begun. */
  readonly generation: number | null;
  readonly pendingBytes: number;
  /** Since when something is not in the store, in milliseconds since 1970. Null when all is. */
  readonly pendingSinceMs: number | null;
  readonly error: string | null;
}

export class TenantUpload {
  readonly #parts: TenantUploadParts;
  readonly #keys: TenantKeys;
  readonly #generations: Generations;
  readonly #directory: TenantDirectory;
  /** Of each timeline whose WAL was uploaded. */
  readonly #walUploads = new Map<TimelineId, OneAtATime>();
  #uploaded: UploadedTenant | null = null;
  /** Timelines whose WAL was compared with the store's in this generation. */
  readonly #compared = new Set<TimelineId>();
  #pendingLayerBytes = 0;
  #dirtySinceMs: number | null;
  #walSinceMs: number | null = null;
  #takenOver: ZenithError | null = null;
  #problem: string | null = null;
  /** Metadata that can't be read. */
  readonly #damaged = new Map<TimelineId, Uint8Array>();
  /** What was found to be the same. */
  #same: { readonly local: LocalTenant; readonly manifest: Manifest } | null = null;

  constructor(parts: TenantUploadParts) {
    const { store, tenantId, disk, paths } = parts;
    this.#parts = parts;
    this.#keys = new TenantKeys(tenantId);
    this.#generations = new Generations(store, tenantId, disk, paths.attachment(tenantId));
    this.#directory = new TenantDirectory(disk, paths, tenantId);
    this.#dirtySinceMs = parts.nowMs();
  }

  /** Set when another page server has taken the tenant over. Nothing is uploaded any more then. */
  get takenOver(): ZenithError | null {
    return this.#takenOver;
  }

  /** The generation in which it is uploaded. Null before it begins. */
  get generation(): number | null {
    return this.#uploaded?.generation ?? null;
  }

  /** Whether everything was in the store when it was last looked at. */
  get isUploaded(): boolean {
    return this.#dirtySinceMs === null && this.#walSinceMs === null;
  }

  /** Looks at what is here now, so that nothing that was done before the call is left out. */
  status(): UploadStatus {
    const pendingWalBytes = this.#pendingWalBytes();
    if (this.#isDirty()) this.#dirtySinceMs ??= this.#parts.nowMs();
    if (pendingWalBytes > 0) this.#walSinceMs ??= this.#parts.nowMs();
    const since = [this.#dirtySinceMs, this.#walSinceMs].filter((ms) => ms !== null);
    return {
      generation: this.#uploaded?.generation ?? null,
      pendingBytes: this.#pendingLayerBytes + pendingWalBytes,
      pendingSinceMs: since.length === 0 ? null : Math.min(...since),
      error: this.#takenOver?.message ?? this.#problem,
    };
  }

  /** The bytes of layers that are only here, as far as it is known. */
  get pendingLayerBytes(): number {
    return this.#pendingLayerBytes;
  }

  /** The layers that the last manifest names: the store has them, and keeps them. */
  layersInStore(): Map<TimelineId, readonly UploadedLayer[]> {
    const found = new Map<TimelineId, readonly UploadedLayer[]>();
    const manifest = this.#uploaded?.manifest ?? null;
    for (const [id, { index }] of manifest?.timelines ?? []) {
      const known = this.#uploaded!.indexes.get(id);
      if (known !== undefined && compareVersions(known.version, index) === 0) {
        found.set(id, known.index.layers);
      }
    }
    return found;
  }

  #isDirty(): boolean {
    const local = this.#uploaded === null ? null : this.#directory.read();
    return local !== null && this.#isChanged(this.#uploaded!, local);
  }

  #pendingWalBytes(): number {
    const uploaded = this.#uploaded;
    if (uploaded === null) return 0;
    return this.#parts.timelines.opened().reduce(
      (sum, timeline) => sum + (uploaded.wal.get(timeline.timelineId)?.behind(timeline) ?? 0),
      0,
    );
  }

  /**
   * Uploads what has changed in the tenant's directory. Only one call at a time.
   *
   * @throws {ZenithError} what the store or the disk throws; the next call tries again
   */
  async uploadFiles(): Promise<void> {
    await this.#attempt(async () => {
      const uploaded = this.#uploaded ??= await this.#begin();
      for (let attempt = 1;; attempt++) {
        const local = this.#directory.read();
        if (local === null) return;
        if (this.#dirtySinceMs === null && !this.#isChanged(uploaded, local)) break;
        this.#dirtySinceMs ??= this.#parts.nowMs();
        // A branch needs its ancestor's WAL up to where it has left it.
        await this.uploadWal();
        for (const [id, metadata] of local.timelines) {
          if (this.#isUsable(id, metadata)) await this.#uploadIndex(uploaded, id, metadata);
        }
        await this.#compareWal(uploaded, local);
        if (await this.#writeManifest(uploaded)) {
          this.#dirtySinceMs = null;
          this.#pendingLayerBytes = 0;
          await this.uploadWal();
          break;
        }
        if (attempt === MANIFEST_ATTEMPTS) return;
      }
      await this.#removeGarbage(uploaded);
    });
  }

  /** Uploads the WAL of open timelines. @throws {ZenithError} as {@link uploadFiles} */
  async uploadWal(): Promise<void> {
    const uploaded = this.#uploaded;
    if (uploaded === null) return;
    await this.#attempt(async () => {
      const startMs = this.#parts.nowMs();
      await forEachOf(this.#parts.timelines.opened(), WAL_UPLOADS, async ({ timelineId }) => {
        using held = this.#parts.timelines.holdIfOpen(timelineId);
        if (held !== null) await this.#uploadWalOf(uploaded, held.value);
      });
      if (!this.#parts.timelines.opened().some((timeline) => this.#isUnheardOf(uploaded, timeline))) {
        // All that was behind may be of timelines that know already, or are closed by now.
        if (this.#pendingWalBytes() === 0) this.#walSinceMs = null;
        return;
      }
      const ends = this.#restorableEnds(uploaded);
      // Safekeepers forget WAL when they hear of it. What a later generation ignores is not enough.
      await this.#generations.assertNewest(uploaded.generation);
      this.#advance(uploaded, ends, startMs);
    });
  }

  #uploadWalOf(uploaded: UploadedTenant, timeline: Timeline): Promise<void> {
    const { timelineId } = timeline;
    const uploads = this.#walUploads.get(timelineId) ?? new OneAtATime();
    this.#walUploads.set(timelineId, uploads);
    return uploads.run(async () => {
      if (timeline.isGone) {
        this.#walUploads.delete(timelineId);
        return;
      }
      const { store, nowMs } = this.#parts;
      const wal = uploaded.walOf(timeline.timelineId);
      if (wal.behind(timeline) > 0) this.#walSinceMs ??= nowMs();
      await wal.upload(timeline, store, this.#keys, uploaded.generation);
      this.#compared.add(timeline.timelineId);
    });
  }

  /** Whether a timeline, perhaps opened a moment ago, is further in the store than it knows. */
  #isUnheardOf(uploaded: UploadedTenant, { timelineId, walSegmentSize, uploaded: known }: Timeline): boolean {
    return known.lsn !== null && known.lsn < uploaded.restorableEnd(timelineId, walSegmentSize);
  }

  /** How far open timelines are in the store. */
  #restorableEnds(uploaded: UploadedTenant): ReadonlyMap<Timeline, Lsn> {
    return new Map(
      this.#parts.timelines.opened().map((timeline) => {
        return [timeline, uploaded.restorableEnd(timeline.timelineId, timeline.walSegmentSize)];
      }),
    );
  }

  /**
   * Tells open timelines how far they are in the store.
   *
   * @param ends those from before it was seen that the generation counts
   * @param startMs what is not there by now came after this
   */
  #advance(uploaded: UploadedTenant, ends: ReadonlyMap<Timeline, Lsn>, startMs: number): void {
    let isBehind = false;
    for (const timeline of this.#parts.timelines.opened()) {
      const { timelineId } = timeline;
      const end = ends.get(timeline);
      if (end !== undefined) timeline.uploaded.advance(end);
      if (uploaded.walOf(timelineId).behind(timeline) > 0) isBehind = true;
    }
    this.#walSinceMs = isBehind ? startMs : null;
  }

  async #begin(): Promise<UploadedTenant> {
    const { store, tenantId, nowMs, logger } = this.#parts;
    const generation = await this.#generations.next();
    const found = await readRemoteState(store, tenantId, generation, nowMs());
    logger.info("uploads begin", { tenant: tenantId, generation, store: store.url });
    return new UploadedTenant(this.#keys, generation, found, nowMs());
  }

  /**
   * Opens timelines whose WAL has to be looked at: those that have some behind their layers, and
   * those whose WAL in the store doesn't go on from the layers.
   */
  async #compareWal(uploaded: UploadedTenant, local: LocalTenant): Promise<void> {
    const { timelines, logger, tenantId } = this.#parts;
    for (const id of local.timelines.keys()) {
      if (timelines.isShut) return;
      const sleeping = timelines.asleep(id);
      const isKnown = sleeping !== null || this.#compared.has(id);
      if (isKnown && uploaded.walContinues(id, this.#segmentSize(id))) continue;
      try {
        using held = await timelines.hold(id, false);
        await this.#uploadWalOf(uploaded, held.value);
      } catch (error) {
        if (!(error instanceof ZenithError) || error.kind !== "corrupt_data") throw error;
        this.#compared.add(id);
        logger.warn(`a damaged timeline's WAL is not uploaded: ${errorMessage(error)}`, {
          tenant: tenantId,
          timeline: id,
        });
      }
    }
  }

  #segmentSize(id: TimelineId): number {
    return this.#parts.timelines.ifOpenNow(id)?.walSegmentSize ?? DEFAULT_SEGMENT_BYTES;
  }

  async #uploadIndex(uploaded: UploadedTenant, id: TimelineId, bytes: Uint8Array): Promise<void> {
    const before = uploaded.indexes.get(id);
    if (before !== undefined && isSame(before.index.metadata, bytes)) return;
    const { store, paths, tenantId, nowMs } = this.#parts;
    const directory = paths.timeline(tenantId, id);
    const metadata = this.#decode(id, bytes, directory);
    if (metadata === null) return;
    const known = new Map(before?.metadata.layers.map((entry, i) => [keyOf(entry), before.index.layers[i]!]));
    const loose = uploaded.loose.get(id) ?? new Map<number, UploadedLayer>();
    uploaded.loose.set(id, loose);
    const missing = metadata.layers.filter((entry) => !known.has(keyOf(entry)) && !loose.has(entry.number));
    this.#pendingLayerBytes = missing.reduce((sum, { fileSize }) => sum + fileSize, 0);
    for (const { number, fileSize } of missing) {
      const name = { number, generation: uploaded.generation };
      const path = layerPath(directory, number);
      const key = this.#keys.layer(id, name);
      try {
        const crc = await uploadFile(this.#parts.disk, path, fileSize, store, key);
        loose.set(number, { ...name, sizeBytes: fileSize, crc });
      } catch (error) {
        // A merge has replaced it meanwhile: newer metadata tells by what.
        if (systemErrorCode(error) === "ENOENT") return;
        throw error;
      }
      this.#pendingLayerBytes -= fileSize;
    }
    const layers = metadata.layers.map((entry) => known.get(keyOf(entry)) ?? loose.get(entry.number)!);
    const index = { timelineId: id, metadata: bytes, layers };
    const version = uploaded.nextVersion();
    await store.putIfAbsent(this.#keys.index(id, version), encodeSmallFile(INDEX_FORMAT, index));
    uploaded.replaceIndex(id, uploadedIndex(version, index), nowMs());
  }

  /** Returns null for damaged metadata. What was uploaded of the timeline before stays. */
  #decode(id: TimelineId, bytes: Uint8Array, directory: string): TimelineMetadata | null {
    try {
      return decodeMetadata(bytes, directory);
    } catch (error) {
      if (!(error instanceof ZenithError) || error.kind !== "corrupt_data") throw error;
      this.#damaged.set(id, bytes);
      const { logger, tenantId } = this.#parts;
      logger.warn(`not uploaded: ${error.message}`, { tenant: tenantId, timeline: id });
      return null;
    }
  }

  #isUsable(id: TimelineId, metadata: Uint8Array | null): metadata is Uint8Array {
    const damaged = this.#damaged.get(id);
    return metadata !== null && (damaged === undefined || !isSame(damaged, metadata));
  }

  /** @returns false when something is there by now that has no index */
  async #writeManifest(uploaded: UploadedTenant): Promise<boolean> {
    const { store, tenantId, nowMs } = this.#parts;
    const local = this.#directory.read();
    if (local === null) return true;
    for (const [id, metadata] of local.timelines) {
      if (this.#isUsable(id, metadata) && !uploaded.indexes.has(id)) return false;
    }
    for (const id of [...uploaded.indexes.keys()]) {
      if (!this.#isGone(id, local)) continue;
      uploaded.dropTimeline(id, nowMs());
      this.#walUploads.delete(id);
      this.#compared.delete(id);
    }
    const timelines = new Map<TimelineId, ManifestTimeline>();
    for (const [id, { version }] of uploaded.indexes) {
      const { inherited } = uploaded.walOf(id);
      timelines.set(id, { index: version, inherited, walFromLsn: this.#walFrom(uploaded, id) });
    }
    const manifest = {
      tenantId,
      version: uploaded.nextVersion(),
      writtenMs: nowMs(),
      isDeleted: false,
      timelines,
      files: local.files,
      garbage: uploaded.garbage,
    };
    await this.#generations.assertNewest(uploaded.generation);
    await store.putIfAbsent(this.#keys.manifest(manifest.version), encodeManifest(manifest));
    uploaded.replaceManifest(manifest, nowMs());
    // What has changed since the look at the directory is for the next round.
    return true;
  }

  #isChanged(uploaded: UploadedTenant, local: LocalTenant): boolean {
    const { manifest } = uploaded;
    if (this.#same?.local === local && this.#same.manifest === manifest) return false;
    if (manifest === null || this.#differs(uploaded, manifest, local)) return true;
    this.#same = { local, manifest };
    return false;
  }

  #differs({ indexes }: UploadedTenant, manifest: Manifest, local: LocalTenant): boolean {
    for (const id of manifest.timelines.keys()) if (this.#isGone(id, local)) return true;
    for (const [id, metadata] of local.timelines) {
      if (!this.#isUsable(id, metadata)) continue;
      const index = indexes.get(id)?.index;
      if (index === undefined || !isSame(index.metadata, metadata)) return true;
    }
    if (local.files.size !== manifest.files.size) return true;
    for (const [path, bytes] of local.files) {
      const before = manifest.files.get(path);
      if (before === undefined || !isSame(before, bytes)) return true;
    }
    return false;
  }

  /** Where the WAL begins that a timeline needs: as here, never behind its layers in the store. */
  #walFrom(uploaded: UploadedTenant, id: TimelineId): Lsn {
    const timeline = this.#parts.timelines.ifOpenNow(id);
    const layersEnd = uploaded.indexes.get(id)!.metadata.diskConsistentLsn;
    if (timeline === null || timeline === undefined) {
      const known = uploaded.walFrom(id) ?? uploaded.walOf(id).startLsn;
      return Math.min(known, layersEnd) as Lsn;
    }
    return Math.min(timeline.wal.startLsn, segmentStart(layersEnd, timeline.walSegmentSize)) as Lsn;
  }

  /** Whether a timeline was deleted here. One that is missing for another reason stays uploaded. */
  #isGone(id: TimelineId, local: LocalTenant): boolean {
    return !local.timelines.has(id) && this.#parts.isDeleted(id);
  }

  /** Removes what has been garbage for long enough, if the tenant still is ours. */
  async #removeGarbage(uploaded: UploadedTenant): Promise<void> {
    const { deletionDelayMs, walRetentionMs } = this.#parts;
    const untilMs = this.#parts.nowMs() - deletionDelayMs;
    const walUntilMs = this.#parts.nowMs() - walRetentionMs;
    const due = uploaded.due(untilMs, walUntilMs);
    if (due.length === 0) return;
    await this.#generations.assertNewest(uploaded.generation);
    await this.#parts.store.deleteMany(due);
    uploaded.removed(untilMs, walUntilMs);
  }

  async #attempt(work: () => Promise<void>): Promise<void> {
    if (this.#takenOver !== null) throw this.#takenOver;
    try {
      await work();
      this.#problem = null;
    } catch (error) {
      if (error instanceof ZenithError && error.kind === "conflict") this.#takenOver = error;
      this.#problem = errorMessage(error);
      throw error;
    }
  }
}

/** Identifies a layer's content within its timeline, across generations. */
function keyOf({ number, footerCrc, fileSize }: LayerEntry): string {
  return `${number} ${footerCrc} ${fileSize}`;
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a === b || a.length === b.length && Buffer.compare(a, b) === 0;
}
