/**
 * Reads layers that are not on this disk, or only in part, from the object store. Whoever reads a
 * layer opens it by its path. It gets the file if that is here. Else it gets the layer's chunks,
 * which are fetched when they are read.
 */
import { basename, dirname } from "node:path";
import type { Disk } from "../../common/disk.ts";
import { withIoErrors, ZenithError } from "../../common/errors.ts";
import type { TenantId, TimelineId } from "../../common/id.ts";
import type { PageServerPaths } from "../../common/paths.ts";
import type { SmallFile } from "../../common/small_file.ts";
import { AbsentBytes, isMissing, type LayerFile, type LayerFiles, layerPath } from "../../pagestore/mod.ts";
import type { ObjectStore } from "../../object_store/object_store.ts";
import { type RemoteLayer, type RemoteLayerList, remoteLayerList } from "../timeline/remote_layer_list.ts";
import { CHUNK_BYTES, ChunkCache, chunksOf } from "./chunk_cache.ts";
import { ChunkFetches, type RemoteObject } from "./chunk_fetches.ts";
import { TenantKeys } from "./keys.ts";

/** The most chunks that are fetched ahead of a reader that goes through a layer. */
const AHEAD_MAX = 8;
/** Bytes that are still wrong after so many fetches are wrong in the store. */
const FETCHES_MAX = 3;
/** After this long, a damaged chunk is a new case. */
const SUSPICION_MS = 60_000;

export interface RemoteLayersParts {
  readonly disk: Disk;
  readonly paths: PageServerPaths;
  readonly store: ObjectStore;
  readonly nowMs: () => number;
  /** Closes a file that is read. */
  readonly closeFile: (path: string) => void;
}

/** All remote layers of a page server. */
export class RemoteLayers {
  readonly cache: ChunkCache;
  readonly #parts: RemoteLayersParts;
  readonly #fetches: ChunkFetches;
  /** By directory. */
  readonly #timelines = new Map<string, TimelineLayers>();

  /** @throws {ZenithError} `io` */
  constructor(parts: RemoteLayersParts) {
    this.#parts = parts;
    this.cache = new ChunkCache(parts.disk, parts.paths.chunkCache, parts.nowMs);
    this.#fetches = new ChunkFetches(parts.store, this.cache);
  }

  of(tenant: TenantId, timeline: TimelineId): TimelineLayers {
    const { disk, paths, nowMs, closeFile } = this.#parts;
    const directory = paths.timeline(tenant, timeline);
    let found = this.#timelines.get(directory);
    if (found === undefined) {
      found = new TimelineLayers(
        disk,
        directory,
        tenant,
        timeline,
        this.cache,
        this.#fetches,
        nowMs,
        closeFile,
      );
      this.#timelines.set(directory, found);
    }
    return found;
  }

  /** Forgets a tenant that is gone from here, with its chunks. */
  forget(tenant: TenantId): void {
    const below = this.#parts.paths.timelines(tenant);
    for (const directory of this.#timelines.keys()) {
      if (dirname(directory) === below) this.#timelines.delete(directory);
    }
    this.cache.dropTenant(tenant);
  }

  /** Forgets a timeline that was deleted, with its chunks. */
  forgetTimeline(timeline: TimelineId): void {
    for (const directory of this.#timelines.keys()) {
      if (basename(directory) === timeline) this.#timelines.delete(directory);
    }
    this.cache.dropTimeline(timeline);
  }

  /**
   * Returns a chunk of a layer, for another thread that reads it.
   *
   * @param isSuspect whether the bytes that were returned before fail their checksum
   * @throws {ZenithError} as {@link AbsentBytes.arrive}
   */
  async chunk(path: string, chunk: number, isSuspect: boolean): Promise<Uint8Array> {
    const layers = this.#timelines.get(dirname(path));
    if (layers === undefined) throw new ZenithError("not_found", `nobody has opened the timeline of ${path}`);
    return await layers.chunk(path, chunk, isSuspect);
  }
}

/** The layers of one timeline. */
export class TimelineLayers implements LayerFiles {
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #name: string;
  readonly #keys: TenantKeys;
  readonly #timeline: TimelineId;
  readonly #cache: ChunkCache;
  readonly #fetches: ChunkFetches;
  readonly #nowMs: () => number;
  readonly #closeFile: (path: string) => void;
  readonly #list: SmallFile<RemoteLayerList>;
  /** By number; null until it is read. */
  #remote: Map<number, RemoteLayer> | null = null;
  readonly #suspects: Suspects = new Map();
  /** When local layers were read last, by number. */
  readonly usedMs = new Map<number, number>();

  constructor(
    disk: Disk,
    directory: string,
    tenant: TenantId,
    timeline: TimelineId,
    cache: ChunkCache,
    fetches: ChunkFetches,
    nowMs: () => number,
    closeFile: (path: string) => void,
  ) {
    this.#disk = disk;
    this.#directory = directory;
    this.#closeFile = closeFile;
    this.#name = `${tenant}/${timeline}`;
    this.#keys = new TenantKeys(tenant);
    this.#timeline = timeline;
    this.#cache = cache;
    this.#fetches = fetches;
    this.#nowMs = nowMs;
    this.#list = remoteLayerList(disk, directory);
  }

  /**
   * Those that need not be here, by number. @throws {ZenithError} `corrupt_data`, `io`, `conflict`
   */
  get remote(): ReadonlyMap<number, RemoteLayer> {
    return this.#known();
  }

  #known(): Map<number, RemoteLayer> {
    if (this.#remote !== null) return this.#remote;
    const list = this.#list.read();
    if (list !== null && list.store !== this.#fetches.url && list.layers.length > 0) {
      throw new ZenithError(
        "conflict",
        `layers of ${this.#directory} are in ${list.store}, and the object store is ${this.#fetches.url}`,
        { hint: `make it ${list.store} again` },
      );
    }
    this.#remote = new Map(list?.layers.map((layer) => [layer.number, layer]));
    return this.#remote;
  }

  open(path: string): LayerFile {
    const number = layerNumber(path);
    try {
      const file = this.#disk.openSync(path, "read");
      return {
        readSync: (into, off, len, position) => {
          this.usedMs.set(number, this.#nowMs());
          return file.readSync(into, off, len, position);
        },
        closeSync: () => file.closeSync(),
      };
    } catch (error) {
      const layer = isMissing(error) ? this.#known().get(number) : undefined;
      if (layer === undefined) throw error;
      const object = this.#objectOf(layer);
      return new RemoteFile(path, object, this.#cache, this.#fetches, this.#suspects, this.#nowMs);
    }
  }

  isOnlyHere(path: string): boolean {
    return !this.#known().has(layerNumber(path));
  }

  remove(path: string): void {
    const number = layerNumber(path);
    const layer = this.#known().get(number);
    if (layer !== undefined) {
      this.#known().delete(number);
      this.#cache.dropLayer(this.#objectOf(layer).name);
    }
    this.usedMs.delete(number);
    this.#disk.unlinkSync(path);
  }

  /**
   * Removes layers from this disk that the store has. Readers that have them open can go on.
   *
   * @throws {ZenithError} `disk_full`, `io`
   */
  async evict(layers: readonly RemoteLayer[]): Promise<void> {
    const all = new Map(this.#known());
    const isHere = ({ number }: RemoteLayer) =>
      this.#disk.statSync(layerPath(this.#directory, number)) !== null;
    const evicted = withIoErrors("look at", this.#directory, () => layers.filter(isHere));
    if (evicted.length === 0) return;
    for (const layer of evicted) all.set(layer.number, layer);
    // From now on the files may be missing.
    await this.#list.write({ store: this.#fetches.url, layers: [...all.values()] });
    const known = this.#known();
    for (const layer of evicted) {
      const path = layerPath(this.#directory, layer.number);
      // It may have been merged meanwhile.
      if (this.#disk.statSync(path) === null) continue;
      known.set(layer.number, layer);
      this.usedMs.delete(layer.number);
      this.#closeFile(path);
      withIoErrors("remove", path, () => this.#disk.unlinkSync(path));
    }
  }

  async chunk(path: string, chunk: number, isSuspect: boolean): Promise<Uint8Array> {
    const layer = this.#known().get(layerNumber(path));
    if (layer === undefined) throw new ZenithError("not_found", `the layer ${path} is gone`);
    const object = this.#objectOf(layer);
    if (isSuspect) this.#cache.drop(object.name, chunk);
    const bytes = new Uint8Array(chunkLength(object, chunk));
    while (!this.#cache.read(object.name, chunk, bytes, 0, bytes.length, 0)) {
      await this.#fetches.fetch(object, [chunk]);
    }
    // Whoever merges layers goes through them.
    const ahead = Array.from({ length: AHEAD_MAX }, (_, i) => chunk + 1 + i);
    this.#fetches.fetch(object, ahead.filter((at) => at < chunkCount(object))).catch(() => {});
    return bytes;
  }

  #objectOf({ number, generation, sizeBytes }: RemoteLayer): RemoteObject {
    return {
      name: `${this.#name}/${number}-${generation}`,
      key: this.#keys.layer(this.#timeline, { number, generation }),
      sizeBytes,
    };
  }
}

/** Chunks whose bytes failed their checksum, by layer and chunk: how often, and when last. */
type Suspects = Map<string, { readonly times: number; readonly atMs: number }>;

/** A layer that is read by chunks. */
class RemoteFile implements LayerFile {
  readonly #path: string;
  readonly #object: RemoteObject;
  readonly #cache: ChunkCache;
  readonly #fetches: ChunkFetches;
  readonly #nowMs: () => number;
  /** Where the chunks end that were fetched last, and how many are fetched ahead. */
  #fetchedTo = -1;
  #ahead = 0;
  readonly #suspects: Suspects;

  constructor(
    path: string,
    object: RemoteObject,
    cache: ChunkCache,
    fetches: ChunkFetches,
    suspects: Suspects,
    nowMs: () => number,
  ) {
    this.#suspects = suspects;
    this.#path = path;
    this.#object = object;
    this.#cache = cache;
    this.#fetches = fetches;
    this.#nowMs = nowMs;
  }

  readSync(into: Uint8Array, off: number, len: number, position: number): number {
    const end = Math.min(position + len, this.#object.sizeBytes);
    const absent: number[] = [];
    for (let at = position; at < end;) {
      const chunk = Math.floor(at / CHUNK_BYTES);
      const to = Math.min(end, (chunk + 1) * CHUNK_BYTES);
      const inChunk = at - chunk * CHUNK_BYTES;
      if (!this.#cache.read(this.#object.name, chunk, into, off + at - position, to - at, inChunk)) {
        absent.push(chunk);
      }
      at = to;
    }
    if (absent.length > 0) throw this.#absent(absent);
    return Math.max(0, end - position);
  }

  #absent(chunks: readonly number[]): AbsentBytes {
    return new AbsentBytes(`a part of layer ${this.#path}`, async () => {
      const [first, ahead] = this.#around(chunks);
      // Nobody waits for these. They come with the last of the others where they can.
      const wanted = this.#fetches.fetch(this.#object, [...first, ...chunks]);
      if (ahead.length > 0) this.#fetches.fetch(this.#object, ahead).catch(() => {});
      await wanted;
    });
  }

  /** What is probably wanted next: the chunk before the layer's end, and those behind a reader. */
  #around(chunks: readonly number[]): [before: readonly number[], ahead: readonly number[]] {
    const count = chunkCount(this.#object);
    const [first] = chunks;
    const last = chunks.at(-1)!;
    // A layer's end says where its head is, which lies before it.
    if (first === count - 1 && count > 1) return [[count - 2], []];
    const isNext = first === this.#fetchedTo + 1;
    this.#ahead = isNext ? Math.min(AHEAD_MAX, Math.max(1, 2 * this.#ahead)) : 0;
    const ahead = Array.from({ length: this.#ahead }, (_, i) => last + 1 + i).filter((at) => at < count);
    this.#fetchedTo = ahead.at(-1) ?? last;
    return [[], ahead];
  }

  distrust(position: number, len: number, problem: ZenithError): void {
    const chunks = chunksOf(position, len);
    const nowMs = this.#nowMs();
    for (const chunk of chunks) {
      const name = `${this.#object.name}.${chunk}`;
      const before = this.#suspects.get(name);
      const times = before !== undefined && nowMs - before.atMs < SUSPICION_MS ? before.times + 1 : 1;
      if (times > FETCHES_MAX) {
        throw new ZenithError(
          "corrupt_data",
          `${problem.message}; it was fetched ${FETCHES_MAX} times from ${this.#fetches.url}/${this.#object.key}`,
          { hint: "put the object back from a copy: what is in it can't be read until then" },
        );
      }
      this.#suspects.set(name, { times, atMs: nowMs });
      this.#cache.drop(this.#object.name, chunk);
    }
    throw this.#absent(chunks);
  }

  closeSync(): void {}
}

function chunkCount({ sizeBytes }: RemoteObject): number {
  return Math.ceil(sizeBytes / CHUNK_BYTES);
}

function chunkLength({ sizeBytes }: RemoteObject, chunk: number): number {
  return Math.min(CHUNK_BYTES, sizeBytes - chunk * CHUNK_BYTES);
}

/** The number in a layer's path. */
function layerNumber(path: string): number {
  return parseInt(basename(path), 16);
}
