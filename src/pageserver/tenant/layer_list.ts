/** A timeline's layers as a list, and the versions that the read of a page goes through. */
import { type Lsn, lsn as toLsn } from "../../common/lsn.ts";
import { type LayerEntry, ValueChain, whenPresent } from "../../pagestore/mod.ts";
import { isRecordTag, relationKey } from "../content/keys.ts";
import { type LayerNeed, needOf } from "../timeline/garbage.ts";
import type { Timeline } from "../timeline/timeline.ts";
import type { Tenant } from "./tenant.ts";

/** Of a layer's kind, what is not its value format (docs/formats/delta_layer.md). */
const KIND_MASK = 0xff;
const KIND_IMAGE = 2;

export interface ListedLayer {
  readonly entry: LayerEntry;
  readonly isImage: boolean;
  /** How much of it is in the block cache: what was read lately. */
  readonly cachedBytes: number;
  /** What keeps it; null when the next collection may shrink it. */
  readonly neededBy: LayerNeed | null;
}

/** Oldest first. */
export async function listLayers(tenant: Tenant, timeline: Timeline): Promise<ListedLayer[]> {
  const { cutoffs, points, leased } = await tenant.retained(timeline);
  const need = needOf(cutoffs, points, leased);
  return timeline.store.layersWithCached().map(({ entry, cachedBytes }) => ({
    entry,
    cachedBytes,
    isImage: (entry.kind & KIND_MASK) === KIND_IMAGE,
    neededBy: need(entry),
  }));
}

export interface PageName {
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
  readonly fork: number;
  readonly block: number;
}

export interface PageVersion {
  readonly lsn: Lsn;
  readonly kind: "record" | "image";
  readonly bytes: number;
}

export interface PageVersions {
  /** Newest first. */
  readonly versions: readonly PageVersion[];
  /** Whether the last one needs no earlier one. */
  readonly isComplete: boolean;
}

/**
 * What a read of the page at `lsn` goes through, if no cache has it: its versions on the timeline
 * and its ancestors.
 *
 * @throws {ZenithError} `out_of_range` when that LSN is not kept any more, `corrupt_data`, `io`
 */
export async function pageVersions(
  timeline: Timeline,
  { spc, db, rel, fork, block }: PageName,
  lsn: Lsn,
): Promise<PageVersions> {
  timeline.assertUnmasked(lsn);
  const { store } = timeline;
  const chain = new ValueChain();
  await whenPresent(() => store.collect(store.slot(relationKey(spc, db, rel, fork)), block, lsn, chain));
  const versions = Array.from({ length: chain.count }, (_, i): PageVersion => ({
    lsn: toLsn(chain.lsn[i]),
    kind: isRecordTag(chain.tag[i]) ? "record" : "image",
    bytes: chain.len[i],
  }));
  return { versions, isComplete: chain.complete };
}
