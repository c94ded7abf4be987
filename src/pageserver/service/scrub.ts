/**
 * Defines what a scrub checks at a page server: each timeline's metadata, every layer, and its WAL.
 */
import type { Disk } from "../../common/disk.ts";
import { withIoErrors } from "../../common/errors.ts";
import { isIdFileName, parseTimelineId, type TenantId, type TimelineId } from "../../common/id.ts";
import { formatLsn, INVALID_LSN, type Lsn } from "../../common/lsn.ts";
import type { PageServerPaths } from "../../common/paths.ts";
import type { Damage, FoundDamage, ScrubItem } from "../../process/scrub.ts";
import { cutWalIn, describeCutWal } from "../../wal_store/cut_wal.ts";
import { scrubTimeline } from "../../pagestore/mod.ts";
import { remoteLayerNumbers } from "../timeline/remote_layer_list.ts";
import type { Timeline } from "../timeline/timeline.ts";
import { scrubTimelineWal } from "./fsck_wal.ts";

export const RESTORE_LAYER =
  'put the file back from a copy; reads of what is in it fail until then. "zenith fsck" of the stopped page server checks everything';

export interface ScrubSource {
  readonly disk: Disk;
  readonly paths: PageServerPaths;
  tenants(): readonly TenantId[];
  /** Returns the timeline if it is open, null while it is being opened. Never opens it. */
  ifOpen(tenant: TenantId, timeline: TimelineId): Timeline | null | undefined;
}

/** All timelines on disk, open or not. @throws {ZenithError} `io` */
function* timelinesOnDisk(
  { disk, paths, tenants }: Omit<ScrubSource, "ifOpen">,
): Generator<{ tenantId: TenantId; timelineId: TimelineId }> {
  for (const tenantId of tenants()) {
    const directory = paths.timelines(tenantId);
    // It may have been deleted since the listing began.
    if (disk.statSync(directory) === null) continue;
    const names = withIoErrors("list", directory, () => disk.readdirSync(directory));
    for (const timelineId of names.filter(isIdFileName).map(parseTimelineId)) yield { tenantId, timelineId };
  }
}

/** All timelines on disk. @throws {ZenithError} `io` */
export function* scrubItems(source: ScrubSource): Generator<ScrubItem> {
  const { disk, paths } = source;
  for (const { tenantId, timelineId } of timelinesOnDisk(source)) {
    yield {
      tenantId,
      timelineId,
      check: () => checkTimeline(source, tenantId, timelineId),
      exists: () => disk.statSync(paths.timeline(tenantId, timelineId)) !== null,
    };
  }
}

/**
 * WAL that was cut off at a start and kept aside, until somebody removes it. @throws as
 * {@link scrubItems}
 */
export function cutOff(source: Omit<ScrubSource, "ifOpen">): FoundDamage[] {
  return [...timelinesOnDisk(source)].flatMap(({ tenantId, timelineId }) =>
    cutWalIn(source.disk, source.paths.timelineWal(tenantId, timelineId)).map((cut) => ({
      tenantId,
      timelineId,
      damage: describeCutWal(
        cut,
        `safekeepers send it again if they still have it; what they have removed is lost from ${
          formatLsn(cut.from)
        } on`,
      ),
    }))
  );
}

async function* checkTimeline(
  source: ScrubSource,
  tenantId: TenantId,
  timelineId: TimelineId,
): AsyncGenerator<number, readonly Damage[]> {
  const { disk, paths } = source;
  const directory = paths.timeline(tenantId, timelineId);
  const elsewhere = () => remoteLayerNumbers(disk, directory);
  const problems = (yield* scrubTimeline(disk, directory, elsewhere)).map((what) => ({
    what,
    hint: RESTORE_LAYER,
  }));
  const timeline = source.ifOpen(tenantId, timelineId);
  // The WAL is being replayed, which checks it too.
  if (timeline === null) return problems;
  const end = timeline === undefined ? null : endOfWal(timeline);
  const inWal = yield* scrubTimelineWal(disk, directory, end);
  // The timeline has been opened since: the end of its WAL is being cut and written.
  if (end === null && source.ifOpen(tenantId, timelineId) !== undefined) return problems;
  return [...problems, ...inWal];
}

/** Where WAL that nobody changes any more ends, and up to where records are whole. */
function endOfWal({ position, wal }: Timeline): { through: Lsn; wholeTo: Lsn } {
  const through = Math.min(position, wal.syncedLsn) as Lsn;
  return { through, wholeTo: position <= wal.syncedLsn ? through : INVALID_LSN };
}
