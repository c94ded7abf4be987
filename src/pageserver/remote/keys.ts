/** Names what a tenant has in the object store. docs/object_storage.md shows the resulting tree. */
import {
  isIdFileName,
  parseTenantId,
  parseTimelineId,
  type TenantId,
  type TimelineId,
} from "../../common/id.ts";
import type { Lsn } from "../../common/lsn.ts";

/** The folder that has one folder for each tenant. */
export const TENANTS_FOLDER = "tenants/";

const NUMBER_DIGITS = 8;
const LSN_DIGITS = 16;

function hex(value: number, digits = NUMBER_DIGITS): string {
  return value.toString(16).padStart(digits, "0");
}

export function tenantFolder(tenant: TenantId): string {
  return `${TENANTS_FOLDER}${tenant}/`;
}

/** A name that a generation has given out: the later one in one place sorts after the earlier. */
export interface Version {
  readonly generation: number;
  readonly seq: number;
}

/** Compares two versions as numbers are compared. */
export function compareVersions(a: Version, b: Version): number {
  return a.generation - b.generation || a.seq - b.seq;
}

export interface LayerName {
  readonly number: number;
  /** The generation that has uploaded it. */
  readonly generation: number;
}

export interface WalPieceName {
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
  readonly generation: number;
}

/** The keys of one tenant. They are relative to the store's prefix. */
export class TenantKeys {
  readonly folder: string;

  constructor(tenant: TenantId) {
    this.folder = tenantFolder(tenant);
  }

  /** Sorts by generation. */
  generation(generation: number): string {
    return `${this.generations}${hex(generation)}`;
  }
  get generations(): string {
    return `${this.folder}generation/`;
  }
  /** Sorts by `seq`. */
  dataKey(seq: number): string {
    return `${this.dataKeys}${hex(seq)}`;
  }
  get dataKeys(): string {
    return `${this.folder}key/`;
  }
  manifest({ generation, seq }: Version): string {
    return `${this.manifests}${hex(generation)}-${hex(seq)}`;
  }
  get manifests(): string {
    return `${this.folder}manifest/`;
  }
  timeline(timeline: TimelineId): string {
    return `${this.timelines}${timeline}/`;
  }
  get timelines(): string {
    return `${this.folder}timelines/`;
  }
  index(timeline: TimelineId, { generation, seq }: Version): string {
    return `${this.timeline(timeline)}index-${hex(generation)}-${hex(seq)}`;
  }
  layer(timeline: TimelineId, { number, generation }: LayerName): string {
    return `${this.timeline(timeline)}layers/${hex(number)}-${hex(generation)}`;
  }
  wal(timeline: TimelineId, { startLsn, endLsn, generation }: WalPieceName): string {
    return `${this.timeline(timeline)}wal/${hex(startLsn, LSN_DIGITS)}-${hex(endLsn, LSN_DIGITS)}-${
      hex(generation)
    }`;
  }
}

/** What a key of a tenant names. */
export type TenantObject =
  | { readonly kind: "generation"; readonly generation: number }
  | { readonly kind: "manifest"; readonly version: Version }
  | { readonly kind: "index"; readonly timelineId: TimelineId; readonly version: Version }
  | { readonly kind: "layer"; readonly timelineId: TimelineId; readonly name: LayerName }
  | { readonly kind: "wal"; readonly timelineId: TimelineId; readonly name: WalPieceName };

const N = `([0-9a-f]{${NUMBER_DIGITS}})`;
const L = `([0-9a-f]{${LSN_DIGITS}})`;
const TOP = new RegExp(`^(?:generation/${N}|manifest/${N}-${N})$`);
const IN_TIMELINE = new RegExp(`^timelines/([^/]+)/(?:index-${N}-${N}|layers/${N}-${N}|wal/${L}-${L}-${N})$`);

/**
 * Returns what a key names; null when Zenith gives no such names.
 *
 * @param below the key without the tenant's folder
 */
export function parseTenantKey(below: string): TenantObject | null {
  const number = (text: string | undefined): number => parseInt(text!, 16);
  const top = TOP.exec(below);
  if (top !== null) {
    const [, owned, generation, seq] = top;
    return owned === undefined
      ? { kind: "manifest", version: { generation: number(generation), seq: number(seq) } }
      : { kind: "generation", generation: number(owned) };
  }
  const found = IN_TIMELINE.exec(below);
  if (found === null || !isIdFileName(found[1]!)) return null;
  const timelineId = parseTimelineId(found[1]!);
  const [, , indexGeneration, indexSeq, layer, layerGeneration, start, end, walGeneration] = found;
  if (indexGeneration !== undefined) {
    const version = { generation: number(indexGeneration), seq: number(indexSeq) };
    return { kind: "index", timelineId, version };
  }
  if (layer !== undefined) {
    const name = { number: number(layer), generation: number(layerGeneration) };
    return { kind: "layer", timelineId, name };
  }
  const startLsn = number(start) as Lsn;
  const endLsn = number(end) as Lsn;
  return { kind: "wal", timelineId, name: { startLsn, endLsn, generation: number(walGeneration) } };
}

const DATA_KEY = new RegExp(`/key/${N}$`);

/** The number of a tenant's data key object. Null for a key of another form. */
export function parseDataKey(key: string): number | null {
  const found = DATA_KEY.exec(key);
  return found === null ? null : parseInt(found[1]!, 16);
}

const BELOW_TENANT = new RegExp(`^${TENANTS_FOLDER}([^/]+)/(.+)$`);

/** What a key names, and whose it is. Null when Zenith gives no such names. */
export function parseStoreKey(key: string): { tenantId: TenantId; object: TenantObject } | null {
  const [, tenant, below] = BELOW_TENANT.exec(key) ?? [];
  if (tenant === undefined || !isIdFileName(tenant)) return null;
  const object = parseTenantKey(below!);
  return object === null ? null : { tenantId: parseTenantId(tenant), object };
}
