/**
 * What a tenant has in the object store, as found when a generation begins and kept up to date by
 * it from then on.
 */
import { ZenithError } from "../../common/errors.ts";
import type { TenantId, TimelineId } from "../../common/id.ts";
import { decodeSmallFile, encodeSmallFile } from "../../common/small_file.ts";
import { listAll, type ObjectInfo, type ObjectStore } from "../../object_store/object_store.ts";
import {
  compareVersions,
  parseTenantKey,
  TenantKeys,
  type TenantObject,
  type Version,
  type WalPieceName,
} from "./keys.ts";
import {
  type Garbage,
  INDEX_FORMAT,
  type Manifest,
  MANIFEST_FORMAT,
  type TimelineIndex,
} from "./manifest.ts";

/** How many indexes are read at the same time. */
const INDEX_READS = 8;

/** What was found of one tenant. */
export interface RemoteState {
  readonly manifest: Manifest | null;
  /** Of the manifest's timelines. */
  readonly indexes: ReadonlyMap<TimelineId, TimelineIndex>;
  readonly wal: ReadonlyMap<TimelineId, readonly WalPieceName[]>;
  /** What neither the manifest nor an index names, the manifest's own list of it included. */
  readonly garbage: readonly Garbage[];
  /** When the newest object was written, in milliseconds since 1970; 0 when there is none. */
  readonly newestMs: number;
}

interface Found {
  readonly info: ObjectInfo;
  readonly below: string;
  readonly object: TenantObject;
}

/**
 * Reads what a tenant has in the store, up to the manifests of earlier generations.
 *
 * @param before the generation that begins now
 * @throws {ZenithError} `corrupt_data`, and the store's errors
 */
export async function readRemoteState(
  store: ObjectStore,
  tenant: TenantId,
  before: number,
  nowMs: number,
): Promise<RemoteState> {
  const keys = new TenantKeys(tenant);
  const found: Found[] = [];
  for await (const info of listAll(store, keys.folder)) {
    const below = info.key.slice(keys.folder.length);
    const object = parseTenantKey(below);
    if (object !== null) found.push({ info, below, object });
  }
  const manifest = await newestManifest(store, keys, found.map(({ object }) => object), before);
  const indexes = manifest === null ? new Map() : await readIndexes(store, keys, manifest);
  const wal = new Map<TimelineId, WalPieceName[]>();
  for (const { object } of found) {
    if (object.kind !== "wal") continue;
    const pieces = wal.get(object.timelineId) ?? [];
    pieces.push(object.name);
    wal.set(object.timelineId, pieces);
  }
  return {
    manifest,
    indexes,
    wal,
    garbage: findGarbage(found, keys, manifest, indexes, nowMs),
    newestMs: found.reduce((newest, { info }) => Math.max(newest, info.modifiedMs), 0),
  };
}

/**
 * Reads what a tenant is now, without taking it over. Null when it is not there.
 *
 * @throws {ZenithError} `corrupt_data`, and the store's errors
 */
export async function readCurrentManifest(store: ObjectStore, tenant: TenantId): Promise<Manifest | null> {
  const keys = new TenantKeys(tenant);
  const found: TenantObject[] = [];
  for await (const { key } of listAll(store, keys.manifests)) {
    const object = parseTenantKey(key.slice(keys.folder.length));
    if (object !== null) found.push(object);
  }
  return await newestManifest(store, keys, found, Infinity);
}

async function newestManifest(
  store: ObjectStore,
  keys: TenantKeys,
  found: readonly TenantObject[],
  before: number,
): Promise<Manifest | null> {
  let newest: Version | null = null;
  for (const object of found) {
    if (object.kind !== "manifest" || object.version.generation >= before) continue;
    if (newest === null || compareVersions(object.version, newest) > 0) newest = object.version;
  }
  return newest === null ? null : await readManifest(store, keys, newest);
}

async function readManifest(store: ObjectStore, keys: TenantKeys, version: Version): Promise<Manifest> {
  const key = keys.manifest(version);
  return decodeSmallFile(MANIFEST_FORMAT, await store.get(key), `${store.url}/${key}`);
}

export function encodeManifest(manifest: Manifest): Uint8Array {
  return encodeSmallFile(MANIFEST_FORMAT, manifest);
}

async function readIndexes(
  store: ObjectStore,
  keys: TenantKeys,
  manifest: Manifest,
): Promise<Map<TimelineId, TimelineIndex>> {
  const indexes = new Map<TimelineId, TimelineIndex>();
  const waiting = [...manifest.timelines];
  await Promise.all(Array.from({ length: INDEX_READS }, async () => {
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      const [timelineId, { index }] = next;
      const key = keys.index(timelineId, index);
      const decoded = decodeSmallFile(INDEX_FORMAT, await store.get(key), `${store.url}/${key}`);
      if (decoded.timelineId !== timelineId) {
        throw new ZenithError("corrupt_data", `${store.url}/${key} is of timeline ${decoded.timelineId}`);
      }
      indexes.set(timelineId, decoded);
    }
  }));
  return indexes;
}

/**
 * Lists what can be removed later. WAL is left out: what is needed of it is known once a timeline's
 * own WAL is.
 */
function findGarbage(
  found: readonly Found[],
  keys: TenantKeys,
  manifest: Manifest | null,
  indexes: ReadonlyMap<TimelineId, TimelineIndex>,
  nowMs: number,
): Garbage[] {
  const needed = new Set<string>();
  if (manifest !== null) needed.add(keys.manifest(manifest.version));
  for (const [timelineId, { index }] of manifest?.timelines ?? []) {
    needed.add(keys.index(timelineId, index));
    for (const layer of indexes.get(timelineId)!.layers) needed.add(keys.layer(timelineId, layer));
  }
  const since = new Map(manifest?.garbage.map(({ key, sinceMs }) => [key, sinceMs]));
  const garbage: Garbage[] = [];
  for (const { info, below, object } of found) {
    const isGone = object.kind === "wal" && manifest?.timelines.has(object.timelineId) === false;
    const isKept = object.kind === "generation" || object.kind === "wal" && !isGone;
    if (!isKept && !needed.has(info.key)) garbage.push({ key: below, sinceMs: since.get(below) ?? nowMs });
  }
  return garbage;
}
