/** Describes timelines that are closed, without opening them. */
import { join } from "node:path";
import { type Disk } from "../../common/disk.ts";
import type { TenantId, TimelineId } from "../../common/id.ts";
import { INVALID_LSN, type Lsn } from "../../common/lsn.ts";
import type { PageServerPaths } from "../../common/paths.ts";
import { hasAllLayers, readMetadata, type TimelineMetadata } from "../../pagestore/mod.ts";
import {
  isWalSegmentSize,
  nextRecordLsn,
  segmentOffset,
  segmentStart,
  WAL_TLI,
  walFileName,
  XLOG_BLCKSZ,
} from "../../postgres/wal/page_header.ts";
import { segmentFiles } from "../../wal_store/check_wal.ts";
import { Leases } from "../timeline/leases.ts";
import { TimelineSafekeepers } from "../timeline/safekeepers.ts";
import { remoteLayerNumbers } from "../timeline/remote_layer_list.ts";
import { damageOf, type Timeline } from "../timeline/timeline.ts";
import { decodeTimelineInfo } from "../timeline/timeline_info.ts";

export interface SleepingTimeline {
  readonly lastRecordLsn: Lsn;
  /** Where the next record goes. */
  readonly position: Lsn;
  readonly ancestorId: TimelineId | null;
  readonly ancestorLsn: Lsn | null;
  /** As {@link Timeline.maskedFrom}. */
  readonly maskedFrom: Lsn;
  /** Whether that is its own beginning. */
  readonly beginsMasked: boolean;
  /** In bytes. Null when it has not been known since the page server was started. */
  readonly logicalBytes: number | null;
  readonly physicalBytes: number;
  readonly damage: { readonly what: string; readonly hint: string } | null;
}

/**
 * What is known of closed timelines. Each one is read from disk once, because nothing changes it
 * until it is opened.
 */
export class SleepingTimelines {
  readonly #disk: Disk;
  readonly #paths: PageServerPaths;
  readonly #tenant: TenantId;
  readonly #known = new Map<TimelineId, SleepingTimeline>();

  constructor(disk: Disk, paths: PageServerPaths, tenant: TenantId) {
    this.#disk = disk;
    this.#paths = paths;
    this.#tenant = tenant;
  }

  /** Remembers a timeline that is being closed and has everything in layers. */
  remember(timeline: Timeline): void {
    const { lastRecordLsn, position, ancestorId, timelineId, store, maskedFrom, beginsMasked } = timeline;
    let logicalBytes: number | null = null;
    try {
      logicalBytes = timeline.sizes().logical;
    } catch {
      // A damaged size is reported when the timeline is used.
    }
    this.#known.set(timelineId, {
      lastRecordLsn,
      position,
      ancestorId,
      ancestorLsn: store.ancestorLsn,
      maskedFrom,
      beginsMasked,
      logicalBytes,
      physicalBytes: store.sizes().layerBytes + timeline.wal.sizes().bytes,
      damage: timeline.damage(),
    });
  }

  /** Forgets a timeline. Call this when it may change from now on. */
  forget(id: TimelineId): void {
    this.#known.delete(id);
  }

  /**
   * Returns null when the timeline has to be opened to tell: it has WAL that is not in layers, or
   * something is wrong with it or with a timeline that it comes from.
   */
  get(id: TimelineId): SleepingTimeline | null {
    const known = this.#known.get(id);
    if (known !== undefined) return known;
    let found: SleepingTimeline | null;
    try {
      found = this.#read(id);
    } catch {
      // Whoever opens the timeline gets the error.
      return null;
    }
    if (found === null) return null;
    if (found.ancestorId !== null) {
      const ancestor = this.get(found.ancestorId);
      if (ancestor === null) return null;
      if (!found.beginsMasked) found = { ...found, maskedFrom: ancestor.maskedFrom };
    }
    this.#known.set(id, found);
    return found;
  }

  #read(id: TimelineId): SleepingTimeline | null {
    const directory = this.#paths.timeline(this.#tenant, id);
    const metadata = readMetadata(this.#disk, directory);
    const { ancestorId, beginsMasked } = decodeTimelineInfo(metadata.userData, directory);
    const elsewhere = remoteLayerNumbers(this.#disk, directory);
    if (!hasAllLayers(this.#disk, directory, metadata, elsewhere)) return null;
    const wal = walOf(this.#disk, this.#paths.timelineWal(this.#tenant, id));
    const position = endWithoutWal(this.#disk, wal, metadata);
    if (position === null) return null;
    const leases = new Leases(this.#disk, this.#paths.leases(this.#tenant, id));
    const safekeepers = new TimelineSafekeepers(
      this.#disk,
      this.#paths.timelineSafekeepers(this.#tenant, id),
    );
    return {
      lastRecordLsn: metadata.diskConsistentLsn as Lsn,
      position,
      ancestorId,
      ancestorLsn: metadata.ancestorLsn as Lsn | null,
      maskedFrom: (beginsMasked ? metadata.ancestorLsn ?? metadata.startLsn : INVALID_LSN) as Lsn,
      beginsMasked,
      logicalBytes: null,
      physicalBytes: metadata.layers.reduce((sum, { fileSize }) => sum + fileSize, 0) + wal.bytes,
      damage: damageOf(safekeepers, leases),
    };
  }
}

interface WalFiles {
  readonly dir: string;
  readonly names: readonly string[];
  /** The largest segment's size, because a crash may have left the last one shorter. */
  readonly segmentSize: number;
  readonly bytes: number;
}

function walOf(disk: Disk, dir: string): WalFiles {
  const names = segmentFiles(disk, dir);
  const sizes = names.map((name) => disk.statSync(join(dir, name))?.size ?? 0);
  return {
    dir,
    names,
    segmentSize: Math.max(0, ...sizes),
    bytes: sizes.reduce((sum, size) => sum + size, 0),
  };
}

/**
 * Returns where the next record goes if the timeline has no WAL after its layers. Otherwise returns
 * null.
 */
function endWithoutWal(disk: Disk, wal: WalFiles, { diskConsistentLsn }: TimelineMetadata): Lsn | null {
  const { dir, names, segmentSize } = wal;
  if (names.length === 0) {
    // The place of the next record depends on where segments begin only at the beginning of a page.
    return diskConsistentLsn % XLOG_BLCKSZ === 0 ? null : diskConsistentLsn as Lsn;
  }
  if (!isWalSegmentSize(segmentSize)) return null;
  const position = nextRecordLsn(diskConsistentLsn as Lsn, segmentSize);
  const name = walFileName(WAL_TLI, segmentStart(position, segmentSize), segmentSize);
  const last = names.at(-1)!;
  // Segments' names ascend with their LSNs.
  if (last > name) return null;
  return last < name || isZero(disk, join(dir, name), segmentOffset(position, segmentSize)) ? position : null;
}

/** Whether no record begins there. A record begins with its length. */
function isZero(disk: Disk, path: string, at: number): boolean {
  const length = new Uint8Array(4);
  const file = disk.openSync(path, "read");
  try {
    file.readSync(length, 0, length.length, at);
  } finally {
    file.closeSync();
  }
  return length.every((byte) => byte === 0);
}
