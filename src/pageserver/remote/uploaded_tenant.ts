/**
 * What of a tenant is in the object store in one generation: the last manifest, its indexes, the
 * WAL, and what can be removed.
 */
import type { TimelineId } from "../../common/id.ts";
import { INVALID_LSN, type Lsn } from "../../common/lsn.ts";
import { decodeMetadata, type TimelineMetadata } from "../../pagestore/mod.ts";
import { decodeTimelineInfo } from "../timeline/timeline_info.ts";
import { compareVersions, TenantKeys, type Version } from "./keys.ts";
import type { Garbage, Manifest, TimelineIndex, UploadedLayer } from "./manifest.ts";
import type { RemoteState } from "./remote_state.ts";
import { TimelineWal } from "./timeline_wal.ts";

/** An index in the store, read. */
export interface UploadedIndex {
  readonly version: Version;
  readonly index: TimelineIndex;
  readonly metadata: TimelineMetadata;
}

export function uploadedIndex(version: Version, index: TimelineIndex): UploadedIndex {
  return { version, index, metadata: decodeMetadata(index.metadata, `index of ${index.timelineId}`) };
}

/** Where the timeline's own WAL begins, as its metadata says. */
export function walStart({ userData }: TimelineMetadata, timelineId: TimelineId): Lsn {
  return decodeTimelineInfo(userData, `metadata of ${timelineId}`).walStartLsn;
}

/** PostgreSQL's default. Only where a page begins a segment does the size matter here. */
export const DEFAULT_SEGMENT_BYTES = 16 << 20;

export class UploadedTenant {
  readonly keys: TenantKeys;
  readonly generation: number;
  readonly indexes = new Map<TimelineId, UploadedIndex>();
  readonly wal = new Map<TimelineId, TimelineWal>();
  /** Layers that this generation has uploaded and that no index names yet. */
  readonly loose = new Map<TimelineId, Map<number, UploadedLayer>>();
  /** What nothing needs, to be removed after a while. The manifest lists it. */
  garbage: Garbage[];
  /** The same for manifests, and WAL that was given up, or whose timelines are gone: too many. */
  unlisted: Garbage[] = [];
  /** WAL that layers have replaced, of timelines that go on. */
  oldWal: Garbage[] = [];
  /** The last one written. Null before the first. */
  manifest: Manifest | null = null;
  /** The last one of the generation before. */
  readonly #before: Manifest | null;
  #seq = 0;

  constructor(keys: TenantKeys, generation: number, found: RemoteState, nowMs: number) {
    this.keys = keys;
    this.generation = generation;
    this.garbage = [...found.garbage];
    const before = this.#before = found.manifest;
    for (const [id, entry] of before?.timelines ?? []) {
      this.indexes.set(id, uploadedIndex(entry.index, found.indexes.get(id)!));
      const { generation: last } = before!.version;
      const wal = new TimelineWal(id, found.wal.get(id) ?? [], last, entry.inherited);
      this.wal.set(id, wal);
      this.unlisted.push(...wal.givenUp.map((name) => ({ key: keys.wal(id, name), sinceMs: nowMs })));
    }
  }

  nextVersion(): Version {
    return { generation: this.generation, seq: ++this.#seq };
  }

  walOf(id: TimelineId): TimelineWal {
    const known = this.wal.get(id);
    if (known !== undefined) return known;
    const wal = new TimelineWal(id, [], this.generation, { endLsn: INVALID_LSN, spans: null });
    this.wal.set(id, wal);
    return wal;
  }

  /** Where the WAL begins that the last manifest needs. Undefined for a timeline that it lacks. */
  walFrom(id: TimelineId): Lsn | undefined {
    return (this.manifest ?? this.#before)?.timelines.get(id)?.walFromLsn;
  }

  /** Whether there is WAL that goes on from the layers, or there was none when they ended. */
  walContinues(id: TimelineId, segmentSize: number): boolean {
    const found = this.indexes.get(id);
    if (found === undefined) return false;
    const layersEnd = found.metadata.diskConsistentLsn as Lsn;
    const wal = this.walOf(id);
    return wal.endLsn === INVALID_LSN
      ? walStart(found.metadata, id) >= layersEnd
      : wal.continues(layersEnd, segmentSize);
  }

  /** Up to where the timeline can be restored; INVALID_LSN when the manifest doesn't have it. */
  restorableEnd(id: TimelineId, segmentSize: number): Lsn {
    const entry = this.manifest?.timelines.get(id);
    const found = this.indexes.get(id);
    if (entry === undefined || found === undefined) return INVALID_LSN;
    // An index counts once a manifest names it.
    if (compareVersions(found.version, entry.index) !== 0) return INVALID_LSN;
    const layersEnd = found.metadata.diskConsistentLsn as Lsn;
    return this.walContinues(id, segmentSize) ? Math.max(layersEnd, this.walOf(id).endLsn) as Lsn : layersEnd;
  }

  /** Takes in a new index. What only the one before it needed becomes garbage. */
  replaceIndex(id: TimelineId, next: UploadedIndex, nowMs: number): void {
    const before = this.indexes.get(id);
    this.indexes.set(id, next);
    this.loose.delete(id);
    if (before === undefined) return;
    const kept = new Set(next.index.layers.map((layer) => this.keys.layer(id, layer)));
    this.#discard(this.keys.index(id, before.version), nowMs);
    for (const layer of before.index.layers) {
      const key = this.keys.layer(id, layer);
      if (!kept.has(key)) this.#discard(key, nowMs);
    }
  }

  /** Drops a timeline that was deleted. */
  dropTimeline(id: TimelineId, nowMs: number): void {
    const index = this.indexes.get(id);
    if (index !== undefined) {
      this.#discard(this.keys.index(id, index.version), nowMs);
      for (const layer of index.index.layers) this.#discard(this.keys.layer(id, layer), nowMs);
    }
    for (const layer of this.loose.get(id)?.values() ?? []) this.#discard(this.keys.layer(id, layer), nowMs);
    this.dropWal(id, Infinity as Lsn, nowMs);
    const isOfIt = ({ key }: Garbage) => key.startsWith(this.keys.timeline(id));
    this.unlisted.push(...this.oldWal.filter(isOfIt).map(({ key }) => ({ key, sinceMs: nowMs })));
    this.oldWal = this.oldWal.filter((old) => !isOfIt(old));
    this.indexes.delete(id);
    this.loose.delete(id);
    this.wal.delete(id);
  }

  dropWal(id: TimelineId, before: Lsn, nowMs: number): void {
    for (const key of this.wal.get(id)?.dropBefore(before, this.keys) ?? []) {
      this.oldWal.push({ key, sinceMs: nowMs });
    }
  }

  /** Takes in a manifest that was written. */
  replaceManifest(manifest: Manifest, nowMs: number): void {
    if (this.manifest !== null) {
      this.unlisted.push({ key: this.keys.manifest(this.manifest.version), sinceMs: nowMs });
    }
    this.manifest = manifest;
    for (const [id, { walFromLsn }] of manifest.timelines) this.dropWal(id, walFromLsn, nowMs);
  }

  /** The keys of what has been garbage for long enough: WAL since `walUntilMs`, else `untilMs`. */
  due(untilMs: number, walUntilMs: number): string[] {
    const isDue = ({ sinceMs }: Garbage) => sinceMs <= untilMs;
    return [
      ...this.garbage.filter(isDue).map(({ key }) => this.keys.folder + key),
      ...this.unlisted.filter(isDue).map(({ key }) => key),
      ...this.oldWal.filter(({ sinceMs }) => sinceMs <= walUntilMs).map(({ key }) => key),
    ];
  }

  /** Forgets what was removed. */
  removed(untilMs: number, walUntilMs: number): void {
    const stays = ({ sinceMs }: Garbage) => sinceMs > untilMs;
    this.garbage = this.garbage.filter(stays);
    this.unlisted = this.unlisted.filter(stays);
    this.oldWal = this.oldWal.filter(({ sinceMs }) => sinceMs > walUntilMs);
  }

  #discard(key: string, sinceMs: number): void {
    this.garbage.push({ key: key.slice(this.keys.folder.length), sinceMs });
  }
}
