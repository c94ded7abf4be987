/**
 * Reads and writes a timeline's `metadata` file: where its history begins, how far it is durable,
 * and which layer files it consists of. A layer file that the metadata does not name does not
 * exist. docs/formats/timeline_metadata.md is the specification.
 */
import { join } from "node:path";
import { crc32c } from "../../common/crc32c.ts";
import { type Disk, replaceFile } from "../../common/disk.ts";
import { ioError, systemErrorCode, ZenithError } from "../../common/errors.ts";
import { corrupt, getU64, hex, setU64 } from "../layer/layer_format.ts";
import type { LayerInfo } from "../layer/layer_reader.ts";
import type { Key, KeyRange } from "../value/object_id.ts";
import { type GivenUp, Retention } from "../value/retention.ts";

const METADATA_VERSION = 3;

/** "ZNTIMEL" and a zero. */
const METADATA_MAGIC = Uint8Array.of(0x5a, 0x4e, 0x54, 0x49, 0x4d, 0x45, 0x4c, 0x00);

/** The name of the metadata file. */
export const METADATA_FILE = "metadata";

// The fixed part. Offsets are in bytes from the start of the file.
const VERSION = 8;
/** Over all bytes of the file except these four. */
const CRC = 12;
const FILE_SIZE = 16;
const HAS_ANCESTOR = 20;
const ANCESTOR_LSN = 24;
const START_LSN = 32;
const DISK_CONSISTENT_LSN = 40;
const NEXT_LAYER_NUMBER = 48;
const LAYER_COUNT = 52;
const USER_DATA_LENGTH = 56;
const RETAINED_COUNT = 60;
const CUTOFF_LSN = 64;
const FIXED_BYTES = 72;

const RETAINED_BYTES = 8;

// One layer. Offsets are in bytes from its start.
const LAYER_NUMBER = 0;
const LAYER_KIND = 4;
const LAYER_LEVEL = 8;
const LAYER_FOOTER_CRC = 12;
const LAYER_START_LSN = 16;
const LAYER_END_LSN = 24;
const LAYER_FILE_SIZE = 32;
/** Whether the layer has keys: 1 if it has any, 0 if not. */
const LAYER_HAS_KEYS = 40;
const LAYER_FIRST_KEY = 44;
const LAYER_LAST_KEY = 64;
const LAYER_GIVEN_UP_POINTS = 84;
const LAYER_GIVEN_UP_CUTOFF = 88;
const LAYER_BYTES = 96;

export interface LayerEntry extends LayerInfo {
  /** Names the layer's file. It is never used twice in a timeline. */
  readonly number: number;
  readonly level: number;
  readonly givenUp: GivenUp;
  /** null when the layer has no key, only record starts. */
  readonly keys: KeyRange | null;
}

/**
 * Whether the layers' files are there with the right sizes.
 *
 * @param elsewhere the numbers of layers that need not be there
 * @throws when that can't be determined
 */
export function hasAllLayers(
  disk: Disk,
  directory: string,
  { layers }: Pick<TimelineMetadata, "layers">,
  elsewhere: ReadonlySet<number>,
): boolean {
  return layers.every(({ number, fileSize }) =>
    elsewhere.has(number) ||
    disk.statSync(layerPath(directory, number))?.size === fileSize
  );
}

export interface TimelineMetadata {
  /** The LSN at which the timeline left its ancestor; null when it has none. */
  readonly ancestorLsn: number | null;
  /** The timeline's own versions are above this LSN. */
  readonly startLsn: number;
  /** Everything at or below this LSN is in the layers. */
  readonly diskConsistentLsn: number;
  readonly nextLayerNumber: number;
  /** What stays readable. */
  readonly retention: Retention;
  /**
   * The layers in ascending order of their LSN ranges. Those of the same range are in ascending
   * order of their keys.
   */
  readonly layers: readonly LayerEntry[];
  /** Data that the timeline's creator stores with it. */
  readonly userData: Uint8Array;
}

export function metadataPath(directory: string): string {
  return join(directory, METADATA_FILE);
}

/** Whether the directory has a timeline, sound or not. */
export function isTimelineDirectory(disk: Disk, directory: string): boolean {
  return disk.statSync(metadataPath(directory)) !== null;
}

/** The suffix of layer files. */
export const LAYER_SUFFIX = ".layer";

/** Whether a file of that name holds a layer. */
export function isLayerFile(name: string): boolean {
  return name.endsWith(LAYER_SUFFIX);
}

/** Returns the path of a layer's file, e.g. `00000017.layer`. */
export function layerPath(directory: string, number: number): string {
  return join(directory, `${number.toString(16).padStart(8, "0")}${LAYER_SUFFIX}`);
}

/**
 * Replaces the metadata atomically and durably.
 *
 * @throws {ZenithError} `disk_full`, `io`: the file then has either its old content or the new
 */
export async function writeMetadata(
  disk: Disk,
  directory: string,
  metadata: TimelineMetadata,
): Promise<void> {
  const path = metadataPath(directory);
  try {
    await replaceFile(disk, directory, path, encodeMetadata(metadata));
  } catch (error) {
    throw ioError("write timeline metadata", path, error);
  }
}

/**
 * Changes the metadata of a timeline that is closed.
 *
 * @throws {ZenithError} as {@link readMetadata} and {@link writeMetadata}
 */
export async function changeMetadata(
  disk: Disk,
  directory: string,
  changes: Partial<Pick<TimelineMetadata, "retention" | "userData">>,
): Promise<void> {
  await writeMetadata(disk, directory, { ...readMetadata(disk, directory), ...changes });
}

/** @throws {ZenithError} `not_found` when there is no such file, `corrupt_data`, `io` */
export function readMetadata(disk: Disk, directory: string): TimelineMetadata {
  const path = metadataPath(directory);
  let bytes: Uint8Array;
  try {
    bytes = disk.readFileSync(path);
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") {
      throw new ZenithError("not_found", `no timeline in ${directory}: it has no ${METADATA_FILE} file`, {
        cause: error,
      });
    }
    throw ioError("read timeline metadata", path, error);
  }
  return decodeMetadata(bytes, path);
}

export function encodeMetadata(metadata: TimelineMetadata): Uint8Array {
  const { layers, retention, userData } = metadata;
  const size = FIXED_BYTES + RETAINED_BYTES * retention.points.length + LAYER_BYTES * layers.length +
    userData.length;
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  bytes.set(METADATA_MAGIC);
  view.setUint32(VERSION, METADATA_VERSION, true);
  view.setUint32(FILE_SIZE, size, true);
  view.setUint32(HAS_ANCESTOR, metadata.ancestorLsn === null ? 0 : 1, true);
  setU64(view, ANCESTOR_LSN, metadata.ancestorLsn ?? 0);
  setU64(view, START_LSN, metadata.startLsn);
  setU64(view, DISK_CONSISTENT_LSN, metadata.diskConsistentLsn);
  view.setUint32(NEXT_LAYER_NUMBER, metadata.nextLayerNumber, true);
  view.setUint32(LAYER_COUNT, layers.length, true);
  view.setUint32(USER_DATA_LENGTH, userData.length, true);
  view.setUint32(RETAINED_COUNT, retention.points.length, true);
  setU64(view, CUTOFF_LSN, retention.cutoff);
  let at = FIXED_BYTES;
  for (const point of retention.points) {
    setU64(view, at, point);
    at += RETAINED_BYTES;
  }
  for (const layer of layers) {
    view.setUint32(at + LAYER_NUMBER, layer.number, true);
    view.setUint32(at + LAYER_KIND, layer.kind, true);
    view.setUint32(at + LAYER_LEVEL, layer.level, true);
    view.setUint32(at + LAYER_FOOTER_CRC, layer.footerCrc, true);
    setU64(view, at + LAYER_START_LSN, layer.startLsn);
    setU64(view, at + LAYER_END_LSN, layer.endLsn);
    setU64(view, at + LAYER_FILE_SIZE, layer.fileSize);
    setU64(view, at + LAYER_GIVEN_UP_CUTOFF, layer.givenUp.cutoff);
    view.setUint32(at + LAYER_GIVEN_UP_POINTS, layer.givenUp.points, true);
    if (layer.keys !== null) {
      view.setUint32(at + LAYER_HAS_KEYS, 1, true);
      setKey(view, at + LAYER_FIRST_KEY, layer.keys.first);
      setKey(view, at + LAYER_LAST_KEY, layer.keys.last);
    }
    at += LAYER_BYTES;
  }
  bytes.set(userData, at);
  view.setUint32(CRC, metadataCrc(bytes), true);
  return bytes;
}

/** @throws {ZenithError} `corrupt_data`. The message names `path` */
export function decodeMetadata(bytes: Uint8Array, path: string): TimelineMetadata {
  if (bytes.length < FIXED_BYTES) {
    throw corrupt(`${path} has ${bytes.length} bytes, expected at least ${FIXED_BYTES}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let i = 0; i < METADATA_MAGIC.length; i++) {
    if (bytes[i] !== METADATA_MAGIC[i]) {
      throw corrupt(`${path} is not timeline metadata: it lacks the magic number`);
    }
  }
  const version = view.getUint32(VERSION, true);
  if (version !== METADATA_VERSION) {
    throw corrupt(`${path} has format version ${version}, expected ${METADATA_VERSION}`);
  }
  const crc = view.getUint32(CRC, true);
  const found = metadataCrc(bytes);
  if (crc !== found) throw corrupt(`checksum of ${path}: expected ${hex(crc)}, found ${hex(found)}`);
  const layerCount = view.getUint32(LAYER_COUNT, true);
  const userDataLength = view.getUint32(USER_DATA_LENGTH, true);
  const retainedCount = view.getUint32(RETAINED_COUNT, true);
  const layersAt = FIXED_BYTES + RETAINED_BYTES * retainedCount;
  const expected = layersAt + LAYER_BYTES * layerCount + userDataLength;
  if (bytes.length !== expected || view.getUint32(FILE_SIZE, true) !== expected) {
    throw corrupt(`${path} has ${bytes.length} bytes, expected ${expected}`);
  }
  const points: number[] = [];
  for (let i = 0; i < retainedCount; i++) points.push(getU64(view, FIXED_BYTES + RETAINED_BYTES * i));
  const layers: LayerEntry[] = [];
  for (let i = 0; i < layerCount; i++) {
    const at = layersAt + LAYER_BYTES * i;
    layers.push({
      number: view.getUint32(at + LAYER_NUMBER, true),
      kind: view.getUint32(at + LAYER_KIND, true),
      level: view.getUint32(at + LAYER_LEVEL, true),
      footerCrc: view.getUint32(at + LAYER_FOOTER_CRC, true),
      startLsn: getU64(view, at + LAYER_START_LSN),
      endLsn: getU64(view, at + LAYER_END_LSN),
      fileSize: getU64(view, at + LAYER_FILE_SIZE),
      givenUp: {
        cutoff: getU64(view, at + LAYER_GIVEN_UP_CUTOFF),
        points: view.getUint32(at + LAYER_GIVEN_UP_POINTS, true),
      },
      keys: view.getUint32(at + LAYER_HAS_KEYS, true) === 0
        ? null
        : { first: getKey(view, at + LAYER_FIRST_KEY), last: getKey(view, at + LAYER_LAST_KEY) },
    });
  }
  return {
    ancestorLsn: view.getUint32(HAS_ANCESTOR, true) === 0 ? null : getU64(view, ANCESTOR_LSN),
    startLsn: getU64(view, START_LSN),
    diskConsistentLsn: getU64(view, DISK_CONSISTENT_LSN),
    nextLayerNumber: view.getUint32(NEXT_LAYER_NUMBER, true),
    retention: new Retention(getU64(view, CUTOFF_LSN), points),
    layers,
    userData: bytes.slice(layersAt + LAYER_BYTES * layerCount),
  };
}

function metadataCrc(bytes: Uint8Array): number {
  return crc32c(bytes, CRC + 4, bytes.length - CRC - 4, crc32c(bytes, 0, CRC));
}

function setKey(view: DataView, at: number, { object, block }: Key): void {
  view.setUint32(at, object.kind | (object.d << 8), true);
  view.setUint32(at + 4, object.a, true);
  view.setUint32(at + 8, object.b, true);
  view.setUint32(at + 12, object.c, true);
  view.setUint32(at + 16, block, true);
}

function getKey(view: DataView, at: number): Key {
  const kindD = view.getUint32(at, true);
  const object = {
    kind: kindD & 0xff,
    a: view.getUint32(at + 4, true),
    b: view.getUint32(at + 8, true),
    c: view.getUint32(at + 12, true),
    d: (kindD >>> 8) & 0xff,
  };
  return { object, block: view.getUint32(at + 16, true) };
}
