/**
 * What a tenant has in the object store, as found when a generation begins and kept up to date by
 * it from then on.
 */
import { ZenithError } from "../../common/errors.ts";
import { forEachOf } from "../../common/for_each_of.ts";
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

/** What reading needs of a store. */
export type StoreReader = Pick<ObjectStore, "url" | "list"> & { get(key: string): Promise<Uint8Array> };

interface Found {
  readonly info: ObjectInfo;
  readonly below: string;
  readonly object: TenantObject;
}

/**
 * Reads what a tenant has in the store, up to the manifests of earlier generations.
 *
 * @param before the generation that begins now
 * @param untilMs reads what it was then, by the store's clock. What came later is garbage, but for
 *   WAL: that does not count
 * @throws {ZenithError} `corrupt_data`, and the store's errors; `out_of_range` when what it was is
 *   not all there any more
 */
export async function readRemoteState(
  store: StoreReader,
  tenant: TenantId,
  before: number,
  nowMs: number,
  untilMs = Infinity,
): Promise<RemoteState> {
  const keys = new TenantKeys(tenant);
  const found: Found[] = [];
  for await (const info of listAll(store, keys.folder)) {
    const below = info.key.slice(keys.folder.length);
    const object = parseTenantKey(below);
    if (object !== null) found.push({ info, below, object });
  }
  const isThere = (key: string): boolean => there.has(key);
  const there = new Set(untilMs === Infinity ? [] : found.map(({ info }) => info.key));
  const then = found.filter(({ info }) => info.modifiedMs <= untilMs);
  const manifest = await newestManifest(store, keys, then.map(({ object }) => object), before);
  if (manifest !== null && untilMs !== Infinity) assertIndexes(keys, manifest, isThere, untilMs);
  const indexes = manifest === null ? new Map() : await readIndexes(store, keys, manifest);
  if (untilMs !== Infinity) assertLayers(keys, indexes, isThere, untilMs);
  const wal = new Map<TimelineId, WalPieceName[]>();
  for (const { object } of then) {
    if (object.kind !== "wal") continue;
    const pieces = wal.get(object.timelineId) ?? [];
    pieces.push(object.name);
    wal.set(object.timelineId, pieces);
  }
  return {
    manifest,
    indexes,
    wal,
    // What a tenant goes back from may have needed until now what that manifest lists.
    garbage: findGarbage(found, keys, manifest, indexes, untilMs === Infinity ? manifest : null, nowMs),
    newestMs: then.reduce((newest, { info }) => Math.max(newest, info.modifiedMs), 0),
  };
}

type IsThere = (key: string) => boolean;

/** @throws {ZenithError} `out_of_range` */
function assertIndexes(keys: TenantKeys, manifest: Manifest, isThere: IsThere, untilMs: number): void {
  for (const [id, { index }] of manifest.timelines) {
    const key = keys.index(id, index);
    if (!isThere(key)) throw isRemoved(key, untilMs);
  }
}

/** @throws {ZenithError} `out_of_range` */
function assertLayers(
  keys: TenantKeys,
  indexes: ReadonlyMap<TimelineId, TimelineIndex>,
  isThere: IsThere,
  untilMs: number,
): void {
  for (const [id, { layers }] of indexes) {
    const gone = layers.map((layer) => keys.layer(id, layer)).find((key) => !isThere(key));
    if (gone !== undefined) throw isRemoved(gone, untilMs);
  }
}

/** What can't be restored as of `untilMs`, because `what` is not there any more. */
export function isRemoved(what: string, untilMs: number): ZenithError {
  return new ZenithError(
    "out_of_range",
    `the tenant as of ${new Date(untilMs).toISOString()} is not all there any more: ${what} was removed`,
    {
      hint: "deletion_delay_s in pageserver.toml says how long what nothing needs stays; choose a later time",
    },
  );
}

/**
 * Reads what a tenant is now, without taking it over. Null when it is not there.
 *
 * @throws {ZenithError} `corrupt_data`, and the store's errors
 */
export async function readCurrentManifest(store: StoreReader, tenant: TenantId): Promise<Manifest | null> {
  const keys = new TenantKeys(tenant);
  const found: TenantObject[] = [];
  for await (const { key } of listAll(store, keys.manifests)) {
    const object = parseTenantKey(key.slice(keys.folder.length));
    if (object !== null) found.push(object);
  }
  return await newestManifest(store, keys, found, Infinity);
}

async function newestManifest(
  store: StoreReader,
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

async function readManifest(store: StoreReader, keys: TenantKeys, version: Version): Promise<Manifest> {
  const key = keys.manifest(version);
  return decodeSmallFile(MANIFEST_FORMAT, await store.get(key), `${store.url}/${key}`);
}

export function encodeManifest(manifest: Manifest): Uint8Array {
  return encodeSmallFile(MANIFEST_FORMAT, manifest);
}

/** @throws {ZenithError} `corrupt_data`, and the store's errors */
export async function readIndexes(
  store: StoreReader,
  keys: TenantKeys,
  manifest: Manifest,
): Promise<Map<TimelineId, TimelineIndex>> {
  const indexes = new Map<TimelineId, TimelineIndex>();
  await forEachOf(manifest.timelines, INDEX_READS, async ([timelineId, { index }]) => {
    const key = keys.index(timelineId, index);
    const decoded = decodeSmallFile(INDEX_FORMAT, await store.get(key), `${store.url}/${key}`);
    if (decoded.timelineId !== timelineId) {
      throw new ZenithError("corrupt_data", `${store.url}/${key} is of timeline ${decoded.timelineId}`);
    }
    indexes.set(timelineId, decoded);
  });
  return indexes;
}

/**
 * Lists what can be removed later. WAL is left out: what is needed of it is known once a timeline's
 * own WAL is.
 *
 * @param known says since when some of it is garbage
 */
function findGarbage(
  found: readonly Found[],
  keys: TenantKeys,
  manifest: Manifest | null,
  indexes: ReadonlyMap<TimelineId, TimelineIndex>,
  known: Manifest | null,
  nowMs: number,
): Garbage[] {
  const needed = new Set<string>();
  if (manifest !== null) needed.add(keys.manifest(manifest.version));
  for (const [timelineId, { index }] of manifest?.timelines ?? []) {
    needed.add(keys.index(timelineId, index));
    for (const layer of indexes.get(timelineId)!.layers) needed.add(keys.layer(timelineId, layer));
  }
  const since = new Map(known?.garbage.map(({ key, sinceMs }) => [key, sinceMs]));
  const garbage: Garbage[] = [];
  for (const { info, below, object } of found) {
    const isGone = object.kind === "wal" && manifest?.timelines.has(object.timelineId) === false;
    const isKept = object.kind === "generation" || object.kind === "wal" && !isGone;
    if (!isKept && !needed.has(info.key)) garbage.push({ key: below, sinceMs: since.get(below) ?? nowMs });
  }
  return garbage;
}
