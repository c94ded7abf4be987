/**
 * Checks everything about a timeline on disk that can be checked without knowing what its values
 * mean: the metadata, every block of every layer, the order and bounds of their content, and files
 * that do not belong there.
 */
import { join } from "node:path";
import { TEMPORARY_SUFFIX } from "../../common/disk.ts";
import type { Disk } from "../../common/disk.ts";
import { errorMessage } from "../../common/errors.ts";
import { BlockCache } from "../layer/block_cache.ts";
import { LayerCursor } from "../layer/layer_cursor.ts";
import { type DiskLayer, LayerMap } from "./layer_map.ts";
import { localLayers } from "../layer/layer_files.ts";
import { LayerReader } from "../layer/layer_reader.ts";
import { compareKeys, formatObject, type Key, ObjectTable } from "../value/object_id.ts";
import {
  LAYER_SUFFIX,
  type LayerEntry,
  layerPath,
  readMetadata,
  type TimelineMetadata,
} from "./timeline_metadata.ts";

export interface TimelineCheck {
  readonly layers: number;
  readonly keys: number;
  readonly versions: number;
  readonly bytes: number;
  /** The problems, one sentence each. */
  readonly problems: readonly string[];
  /** Files left by a crash. The next start removes them; nothing is wrong with them. */
  readonly strays: readonly string[];
}

/** Small, because only a head and one block of each kind are read a second time. */
const CACHE_BYTES = 4 << 20;

/** How many bytes of values are checked without a break. */
const PIECE_BYTES = 64 << 10;

/** Checking a version costs about as much as checking this many more bytes. */
const VERSION_BYTES = 16;

/**
 * Reads a whole timeline. Nobody may write to it at the same time.
 *
 * @param elsewhere the numbers of layers that need not be here; those are left out
 * @returns the result of the check, including what is wrong
 * @throws {ZenithError} `not_found` when there is no timeline in `directory`, `io`
 */
export function checkTimeline(
  disk: Disk,
  directory: string,
  elsewhere: ReadonlySet<number> = new Set(),
): TimelineCheck {
  const metadata = readMetadata(disk, directory);
  const check = checkLayers(disk, directory, metadata, elsewhere);
  let step = check.next();
  while (step.done !== true) step = check.next();
  const { problems, ...counts } = step.value;
  const known = new Set(metadata.layers.map(({ number }) => layerPath(directory, number)));
  const strays = disk.readdirSync(directory)
    .filter((name) => name.endsWith(LAYER_SUFFIX) || name.endsWith(TEMPORARY_SUFFIX))
    .map((name) => join(directory, name))
    .filter((path) => !known.has(path));
  return { ...counts, problems: problems.map(({ what }) => what), strays };
}

/**
 * Reads the layers of a timeline that is in use, without touching what its user has open. Yields
 * how many bytes each step has read.
 *
 * @param elsewhere returns the numbers of layers that need not be here; those are left out
 * @returns the problems, one sentence each
 * @throws {ZenithError} as {@link checkTimeline}
 */
export function* scrubTimeline(
  disk: Disk,
  directory: string,
  elsewhere: () => ReadonlySet<number> = () => new Set(),
): Generator<number, string[]> {
  const { problems } = yield* checkLayers(disk, directory, readMetadata(disk, directory), elsewhere());
  if (problems.length === 0) return [];
  const away = elsewhere();
  // Layers are merged meanwhile, so a layer that is no longer named may be missing.
  const named = new Set(readMetadata(disk, directory).layers.map(({ number }) => number));
  return problems.filter(({ layer }) => layer === null || (named.has(layer) && !away.has(layer)))
    .map(({ what }) => what);
}

/**
 * A problem in a sentence, and the layer with the problem; null when it concerns several layers.
 */
interface LayerProblem {
  readonly layer: number | null;
  readonly what: string;
}

function* checkLayers(
  disk: Disk,
  directory: string,
  metadata: TimelineMetadata,
  elsewhere: ReadonlySet<number>,
): Generator<number, Omit<TimelineCheck, "problems" | "strays"> & { readonly problems: LayerProblem[] }> {
  const found: LayerProblem[] = [];
  const objects = new ObjectTable();
  const cache = new BlockCache(CACHE_BYTES);
  const counts = { keys: 0, versions: 0 };
  const layers: DiskLayer[] = [];
  let bytes = 0;
  for (const entry of metadata.layers) {
    const problems: string[] = [];
    const reader = new LayerReader(
      localLayers(disk),
      layerPath(directory, entry.number),
      entry,
      cache,
      objects,
    );
    layers.push({ entry, reader });
    bytes += entry.fileSize;
    try {
      const isHere = !elsewhere.has(entry.number) || disk.statSync(reader.path) !== null;
      if (isHere) {
        reader.verify();
        yield* checkLayer(reader, entry, counts, problems);
      }
    } catch (error) {
      problems.push(errorMessage(error));
    }
    reader.close();
    if (entry.number >= metadata.nextLayerNumber) {
      problems.push(
        `layer ${reader.path} has a number that was not given out: next is ${metadata.nextLayerNumber}`,
      );
    }
    if (entry.startLsn < metadata.startLsn || entry.endLsn > metadata.diskConsistentLsn) {
      problems.push(
        `layer ${reader.path} covers LSNs ${entry.startLsn}..${entry.endLsn}, the timeline ` +
          `${metadata.startLsn}..${metadata.diskConsistentLsn}`,
      );
    }
    for (const what of problems) found.push({ layer: entry.number, what });
  }
  try {
    LayerMap.of(layers);
  } catch (error) {
    found.push({ layer: null, what: errorMessage(error) });
  }
  return { layers: layers.length, ...counts, bytes, problems: found };
}

function* checkLayer(
  reader: LayerReader,
  entry: LayerEntry,
  counts: { keys: number; versions: number },
  problems: string[],
): Generator<number, void> {
  let previous: Key | null = null;
  let first: Key | null = null;
  let bytes = 0;
  for (const cursor = new LayerCursor(reader); !cursor.done; cursor.nextKey()) {
    const key: Key = { object: cursor.object, block: cursor.block };
    const where = `layer ${reader.path}, block ${key.block} of ${formatObject(key.object)}`;
    if (previous !== null && compareKeys(previous, key) >= 0) problems.push(`${where}: keys do not ascend`);
    previous = key;
    first ??= key;
    counts.keys++;
    let lsn = 0;
    while (cursor.nextEntry()) {
      counts.versions++;
      if (cursor.lsn < lsn) problems.push(`${where}: LSN ${cursor.lsn} follows ${lsn}`);
      if (cursor.lsn <= entry.startLsn || cursor.lsn > entry.endLsn) {
        problems.push(`${where}: LSN ${cursor.lsn} is outside ${entry.startLsn}..${entry.endLsn}`);
      }
      lsn = cursor.lsn;
      bytes += cursor.len + VERSION_BYTES;
      if (bytes < PIECE_BYTES) continue;
      yield bytes;
      bytes = 0;
    }
  }
  const keys = entry.keys;
  const agree = first === null || previous === null
    ? keys === null
    : keys !== null && compareKeys(first, keys.first) === 0 && compareKeys(previous, keys.last) === 0;
  if (!agree) problems.push(`layer ${reader.path}: its first and last key are not those in the metadata`);
  let lastStart = -1;
  for (let no = 0; no < reader.readHead().starts.count; no++) {
    reader.forEachStartIn(no, (start) => {
      if (start <= lastStart) {
        problems.push(`layer ${reader.path}: record start ${start} follows ${lastStart}`);
      }
      lastStart = start;
    });
    yield bytes;
    bytes = 0;
  }
}
