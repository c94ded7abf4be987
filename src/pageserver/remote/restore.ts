/**
 * Brings a tenant from the object store to this disk: takes its next generation, and makes its
 * directory from the newest manifest, the indexes and the WAL. Layers stay in the store, and are
 * fetched when they are read.
 */
import { dirname, join } from "node:path";
import { type Disk, settleDirectory } from "../../common/disk.ts";
import { ioError, ZenithError } from "../../common/errors.ts";
import { forEachOf } from "../../common/for_each_of.ts";
import type { TenantId, TimelineId } from "../../common/id.ts";
import {
  type PageServerPaths,
  REMOTE_LAYERS_FILE,
  SAFEKEEPERS_FILE,
  TIMELINE_WAL_DIRECTORY,
} from "../../common/paths.ts";
import { maxLsn } from "../../common/lsn.ts";
import { encodeSmallFile } from "../../common/small_file.ts";
import type { ObjectStore } from "../../object_store/object_store.ts";
import { metadataPath } from "../../pagestore/mod.ts";
import { segmentStart } from "../../postgres/wal/page_header.ts";
import { assertPresent, assertWhole, readTenantAsOf } from "./as_of.ts";
import { Generations } from "./generations.ts";
import { TenantKeys } from "./keys.ts";
import { writeFile } from "./layer_upload.ts";
import type { Manifest, ManifestTimeline } from "./manifest.ts";
import { REMOTE_LAYERS_FORMAT } from "../timeline/remote_layer_list.ts";
import { ReadOnce } from "./read_once.ts";
import {
  encodeManifest,
  readCurrentManifest,
  readIndexes,
  readRemoteState,
  type RemoteState,
} from "./remote_state.ts";
import { UploadedTenant, walStart } from "./uploaded_tenant.ts";
import { SegmentFiles } from "./segment_files.ts";
import { decodeWalPiece, type WalPart, walParts, walRuns } from "./wal_piece.ts";

/** How many timelines are fetched at the same time. */
const FETCHES = 4;
/** How many pieces of WAL of one timeline are. Most are short. */
const PIECES_AT_ONCE = 16;

export interface RestoreParts {
  readonly store: ObjectStore;
  readonly tenantId: TenantId;
  readonly disk: Disk;
  readonly paths: PageServerPaths;
  readonly nowMs: number;
  /**
   * Whether the tenant's safekeepers are those that it had before, so that the WAL that they have
   * and the store has not still comes.
   */
  readonly keepsSafekeepers?: boolean;
  /** Restores it as of that time, by the store's clock in milliseconds since 1970. */
  readonly untilMs?: number;
}

export interface RestoredTenant {
  readonly generation: number;
  readonly timelines: number;
  /** Of layers, which stay in the store until they are read. */
  readonly bytes: number;
  /** When the newest object was written, by the store's clock, in milliseconds since 1970. */
  readonly newestMs: number;
}

/**
 * Restores a tenant. Its directory appears complete or not at all. Which safekeepers have had its
 * WAL is restored only with `keepsSafekeepers`: else what they have and the store has not is given
 * up.
 *
 * @throws {ZenithError} `not_found`, `already_exists` when it is here; `out_of_range` when what it
 *   was at that time is not all there any more; `conflict` when another page server takes it at the
 *   same time; `corrupt_data`, `disk_full`, `io`
 */
export async function restoreTenant(parts: RestoreParts): Promise<RestoredTenant> {
  const { store, tenantId, disk, paths, nowMs, untilMs } = parts;
  if (disk.statSync(paths.tenant(tenantId)) !== null) {
    throw new ZenithError("already_exists", `tenant ${tenantId} is here already`);
  }
  disk.mkdirsSync(paths.attachments);
  await settleDirectory(disk, paths.attachments);
  const keys = new TenantKeys(tenantId);
  const generations = new Generations(store, tenantId, disk, paths.attachment(tenantId));
  const reads = new ReadOnce(store);
  // Whoever has the tenant would lose it, also when nothing came of this.
  const [newest] = await Promise.all([generations.newest(), look(reads, keys, parts)]);
  const generation = await generations.takeOver(newest);
  const found = await readRemoteState(reads, tenantId, generation, nowMs, untilMs);
  // Whoever had it may have removed some of it meanwhile, and can't any more.
  if (untilMs !== undefined) assertWhole(store, tenantId, found, nowMs, untilMs);
  const manifest = assertPresent(store, tenantId, found.manifest);
  // From now on, nothing counts any more that earlier generations upload.
  const uploaded = new UploadedTenant(keys, generation, found, nowMs);
  const first = encodeManifest(successor(manifest, uploaded, nowMs));
  const writing = store.putIfAbsent(keys.manifest({ generation, seq: 1 }), first);
  const restore = new Restore(parts, keys, manifest, found, uploaded);
  // One that has failed must not go on while somebody tries again.
  const [written, fetched] = await Promise.allSettled([writing, restore.fetch()]);
  if (written.status === "rejected") throw written.reason;
  if (fetched.status === "rejected") throw fetched.reason;
  await restore.settle();
  const layers = Array.from(uploaded.indexes.values(), ({ index }) => index.layers).flat();
  const bytes = layers.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  return { generation, timelines: manifest.timelines.size, bytes, newestMs: found.newestMs };
}

/**
 * Sees that a tenant can be restored, and begins to read what will be needed then.
 *
 * @throws {ZenithError} as `restoreTenant`
 */
async function look(reads: ReadOnce, keys: TenantKeys, { tenantId, nowMs, untilMs }: RestoreParts) {
  if (untilMs !== undefined) {
    await readTenantAsOf(reads, tenantId, nowMs, untilMs);
    return;
  }
  const manifest = assertPresent(reads, tenantId, await readCurrentManifest(reads, tenantId));
  // Most probably, that will still be the newest one.
  readIndexes(reads, keys, manifest).catch(() => {});
}

/** The first manifest of the new generation: the last one of the old, with its WAL as found. */
function successor(manifest: Manifest, uploaded: UploadedTenant, nowMs: number): Manifest {
  const timelines = new Map<TimelineId, ManifestTimeline>();
  for (const [id, entry] of manifest.timelines) {
    timelines.set(id, { ...entry, inherited: uploaded.walOf(id).inherited });
  }
  const version = { generation: uploaded.generation, seq: 1 };
  return { ...manifest, version, writtenMs: nowMs, timelines, garbage: uploaded.garbage };
}

class Restore {
  readonly #parts: RestoreParts;
  readonly #keys: TenantKeys;
  readonly #manifest: Manifest;
  readonly #found: RemoteState;
  readonly #uploaded: UploadedTenant;
  readonly #root: string;

  constructor(
    parts: RestoreParts,
    keys: TenantKeys,
    manifest: Manifest,
    found: RemoteState,
    uploaded: UploadedTenant,
  ) {
    this.#parts = parts;
    this.#keys = keys;
    this.#manifest = manifest;
    this.#found = found;
    this.#uploaded = uploaded;
    this.#root = parts.paths.tenantInProgress(parts.tenantId);
  }

  /** Makes all files, where nobody looks for them. */
  async fetch(): Promise<void> {
    const { disk, paths } = this.#parts;
    disk.mkdirsSync(paths.tenants);
    await disk.removeTree(this.#root);
    await this.#files();
    await forEachOf(this.#manifest.timelines.keys(), FETCHES, (id) => this.#timeline(id));
  }

  /** Makes the tenant appear, durably. */
  async settle(): Promise<void> {
    const { disk, paths, tenantId } = this.#parts;
    try {
      await this.#syncTree(this.#root);
      disk.renameSync(this.#root, paths.tenant(tenantId));
      await disk.fsyncDir(paths.tenants);
    } catch (error) {
      throw ioError("restore", paths.tenant(tenantId), error);
    }
  }

  /** Makes the directory of a timeline. */
  async #timeline(id: TimelineId): Promise<void> {
    const { disk, store } = this.#parts;
    const directory = join(this.#root, "timelines", id);
    const wal = join(directory, TIMELINE_WAL_DIRECTORY);
    disk.mkdirsSync(wal);
    const { index } = this.#uploaded.indexes.get(id)!;
    await writeFile(disk, metadataPath(directory), index.metadata);
    if (index.layers.length > 0) {
      const list = encodeSmallFile(REMOTE_LAYERS_FORMAT, { store: store.url, layers: index.layers });
      await writeFile(disk, join(directory, REMOTE_LAYERS_FILE), list);
    }
    const parts = this.#walOf(id);
    if (parts.length > 0) await this.#writeWal(id, wal, parts);
  }

  async #files(): Promise<void> {
    const { disk } = this.#parts;
    for (const name of ["branches", "timelines"]) disk.mkdirsSync(join(this.#root, name));
    for (const [path, bytes] of this.#manifest.files) {
      if (path.endsWith(`/${SAFEKEEPERS_FILE}`) && this.#parts.keepsSafekeepers !== true) continue;
      const full = join(this.#root, path);
      disk.mkdirsSync(dirname(full));
      await writeFile(disk, full, bytes);
    }
  }

  /** The WAL that goes on from the timeline's layers, from where the timeline needs it. */
  #walOf(id: TimelineId): WalPart[] {
    const entry = this.#manifest.timelines.get(id)!;
    const { generation } = this.#manifest.version;
    const { metadata } = this.#uploaded.indexes.get(id)!;
    const layersEnd = Math.max(metadata.diskConsistentLsn, walStart(metadata, id));
    const runs = walRuns(walParts(this.#found.wal.get(id) ?? [], generation, entry.inherited));
    const run = runs.findLast((parts) =>
      parts[0]!.startLsn <= layersEnd && parts.at(-1)!.endLsn >= layersEnd
    );
    return run?.filter(({ endLsn }) => endLsn > entry.walFromLsn) ?? [];
  }

  async #writeWal(id: TimelineId, directory: string, parts: readonly WalPart[]): Promise<void> {
    const { store, disk } = this.#parts;
    const { walFromLsn } = this.#manifest.timelines.get(id)!;
    const segments = new SegmentFiles(disk, directory);
    try {
      for (let from = 0; from < parts.length; from += PIECES_AT_ONCE) {
        const some = parts.slice(from, from + PIECES_AT_ONCE);
        const pieces = await Promise.all(some.map(async ({ piece }) => {
          const key = this.#keys.wal(id, piece);
          return decodeWalPiece(await store.get(key), piece, `${store.url}/${key}`);
        }));
        for (const [i, { startLsn, endLsn }] of some.entries()) {
          const piece = pieces[i]!;
          // A segment of which only the end came would pass for a whole one.
          const firstLsn = segmentStart(walFromLsn, piece.segmentSize);
          if (endLsn > firstLsn) await segments.write(piece, maxLsn(startLsn, firstLsn), endLsn);
        }
      }
      await segments.settle();
    } finally {
      segments.close();
    }
    await disk.fsyncDir(directory);
  }

  async #syncTree(directory: string): Promise<void> {
    const { disk } = this.#parts;
    for (const name of disk.readdirSync(directory)) {
      const path = join(directory, name);
      if (disk.statSync(path)?.isDirectory === true) await this.#syncTree(path);
    }
    await disk.fsyncDir(directory);
  }
}
