/**
 * The formats of the two objects that say what a tenant consists of: its manifest, and an index for
 * each timeline. Both are text. docs/formats/object_store.md is the specification.
 */
import { ZenithError } from "../../common/errors.ts";
import { parseTenantId, parseTimelineId, type TenantId, type TimelineId } from "../../common/id.ts";
import { formatLsn, type Lsn, parseLsn } from "../../common/lsn.ts";
import type { SmallFormat } from "../../common/small_file.ts";
import { formatTimestamp, msOfTimestamp, parseTimestamp, timestampOfMs } from "../../common/timestamp.ts";
import type { LayerName, Version } from "./keys.ts";
import type { InheritedWal } from "./wal_piece.ts";

/** One timeline of a manifest. */
export interface ManifestTimeline {
  /** Names its index. */
  readonly index: Version;
  /** What counts of the WAL that earlier generations have uploaded. */
  readonly inherited: InheritedWal;
  /** Where the WAL begins that the timeline still needs. */
  readonly walFromLsn: Lsn;
}

/** An object that nothing needs any more. */
export interface Garbage {
  /** Without the tenant's folder. */
  readonly key: string;
  /** Since when, in milliseconds since 1970. */
  readonly sinceMs: number;
}

/** Everything a tenant consists of, apart from WAL that came after it. */
export interface Manifest {
  readonly tenantId: TenantId;
  readonly version: Version;
  readonly writtenMs: number;
  /** Whether the tenant was deleted on purpose. */
  readonly isDeleted: boolean;
  readonly timelines: ReadonlyMap<TimelineId, ManifestTimeline>;
  /** The small files, by their paths below the tenant's directory. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  readonly garbage: readonly Garbage[];
}

/** A layer that was uploaded. */
export interface UploadedLayer extends LayerName {
  readonly sizeBytes: number;
  /** The CRC-32C of all its bytes. */
  readonly crc: number;
}

export interface TimelineIndex {
  readonly timelineId: TimelineId;
  /** The timeline's metadata file, which names the layers. */
  readonly metadata: Uint8Array;
  /** In the order of the metadata. */
  readonly layers: readonly UploadedLayer[];
}

const time = (ms: number): string => formatTimestamp(timestampOfMs(ms));
const parseTime = (text: string): number => msOfTimestamp(parseTimestamp(text, "none"));
const version = ({ generation, seq }: Version): string => `${generation}-${seq}`;
const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");
const parseBase64 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "base64"));

function parseVersion(text: string): Version {
  const match = /^(\d{1,10})-(\d{1,10})$/.exec(text);
  if (match === null) throw malformed(`"${text}" is no version`);
  return { generation: Number(match[1]), seq: Number(match[2]) };
}

function parseNumber(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw malformed(`"${text}" is no number`);
  return Number(text);
}

function malformed(what: string): ZenithError {
  return new ZenithError("corrupt_data", what.slice(0, 200));
}

/** Splits lines into a keyword and its words, and hands each to the reader of its keyword. */
function readLines(lines: readonly string[], readers: Record<string, (words: string[]) => void>): void {
  for (const line of lines) {
    const [keyword = "", ...words] = line.split(" ");
    const reader = Object.hasOwn(readers, keyword) ? readers[keyword] : undefined;
    if (reader === undefined) throw malformed(`"${keyword}" has no meaning there`);
    reader(words);
  }
}

/** Returns a value that a file must have. */
function present<T>(value: T | undefined, name: string): T {
  if (value === undefined) throw malformed(`the line "${name}" is missing`);
  return value;
}

const FILE_NAME = "[A-Za-z0-9_%-][A-Za-z0-9._%-]*";
/** Paths of files below a tenant's directory. They must not lead out of it. */
const FILE_PATH = new RegExp(`^${FILE_NAME}(?:/${FILE_NAME})*$`);

/** Whether a manifest can name this file, or folder. Zenith gives no other names. */
export function isFilePath(path: string): boolean {
  return FILE_PATH.test(path);
}

export const MANIFEST_FORMAT: SmallFormat<Manifest> = {
  title: "zenith tenant manifest",
  encode: (manifest) => [
    `tenant ${manifest.tenantId}`,
    `version ${version(manifest.version)}`,
    `written ${time(manifest.writtenMs)}`,
    ...(manifest.isDeleted ? ["deleted"] : []),
    ...Array.from(
      manifest.timelines,
      ([id, { index, inherited, walFromLsn }]) =>
        `timeline ${id} ${version(index)} ${formatLsn(inherited.endLsn)} ${formatLsn(walFromLsn)}`,
    ),
    ...Array.from(
      manifest.timelines,
      ([id, { inherited }]) =>
        (inherited.spans ?? []).map(({ generation, startLsn, endLsn }) =>
          `wal ${id} ${generation} ${formatLsn(startLsn)} ${formatLsn(endLsn)}`
        ),
    ).flat(),
    ...Array.from(manifest.files, ([path, bytes]) => `file ${path} ${base64(bytes)}`),
    ...manifest.garbage.map(({ key, sinceMs }) => `garbage ${key} ${time(sinceMs)}`),
  ],
  decode: (lines) => {
    let tenantId: TenantId | undefined;
    let own: Version | undefined;
    let writtenMs: number | undefined;
    let isDeleted = false;
    const timelines = new Map<TimelineId, ManifestTimeline>();
    const files = new Map<string, Uint8Array>();
    const garbage: Garbage[] = [];
    readLines(lines, {
      tenant: ([id = ""]) => tenantId = parseTenantId(id),
      version: ([text = ""]) => own = parseVersion(text),
      written: ([text = ""]) => writtenMs = parseTime(text),
      deleted: () => isDeleted = true,
      timeline: ([id = "", index = "", inherited = "", from = ""]) =>
        timelines.set(parseTimelineId(id), {
          index: parseVersion(index),
          inherited: { endLsn: parseLsn(inherited), spans: null },
          walFromLsn: parseLsn(from),
        }),
      wal: ([id = "", generation = "", start = "", end = ""]) => {
        const timelineId = parseTimelineId(id);
        const entry = timelines.get(timelineId);
        if (entry === undefined) throw malformed(`WAL of timeline ${id}, which it does not have`);
        const span = {
          generation: parseNumber(generation),
          startLsn: parseLsn(start),
          endLsn: parseLsn(end),
        };
        const spans = [...entry.inherited.spans ?? [], span];
        timelines.set(timelineId, { ...entry, inherited: { ...entry.inherited, spans } });
      },
      file: ([path = "", content = ""]) => {
        if (!isFilePath(path)) throw malformed(`"${path}" is no path of a file`);
        files.set(path, parseBase64(content));
      },
      garbage: ([key = "", since = ""]) => garbage.push({ key, sinceMs: parseTime(since) }),
    });
    return {
      tenantId: present(tenantId, "tenant"),
      version: present(own, "version"),
      writtenMs: present(writtenMs, "written"),
      isDeleted,
      timelines,
      files,
      garbage,
    };
  },
};

export const INDEX_FORMAT: SmallFormat<TimelineIndex> = {
  title: "zenith timeline index",
  encode: ({ timelineId, metadata, layers }) => [
    `timeline ${timelineId}`,
    `metadata ${base64(metadata)}`,
    ...layers.map(({ number, generation, sizeBytes, crc }) =>
      `layer ${number} ${generation} ${sizeBytes} ${crc}`
    ),
  ],
  decode: (lines) => {
    let timelineId: TimelineId | undefined;
    let metadata: Uint8Array | undefined;
    const layers: UploadedLayer[] = [];
    readLines(lines, {
      timeline: ([id = ""]) => timelineId = parseTimelineId(id),
      metadata: ([content = ""]) => metadata = parseBase64(content),
      layer: ([number = "", generation = "", size = "", crc = ""]) =>
        layers.push({
          number: parseNumber(number),
          generation: parseNumber(generation),
          sizeBytes: parseNumber(size),
          crc: parseNumber(crc),
        }),
    });
    return { timelineId: present(timelineId, "timeline"), metadata: present(metadata, "metadata"), layers };
  },
};
