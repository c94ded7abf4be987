/** What a scrub checks at a page server: each timeline's metadata, every layer, and its WAL. */
import type { Disk } from "../../common/disk.ts";
import { withIoErrors } from "../../common/errors.ts";
import { isIdFileName, parseTimelineId, type TenantId, type TimelineId } from "../../common/id.ts";
import { formatLsn, INVALID_LSN, type Lsn } from "../../common/lsn.ts";
import type { PageServerPaths } from "../../common/paths.ts";
import type { Damage, FoundDamage, ScrubItem } from "../../process/scrub.ts";
import { cutWalIn } from "../../wal_store/cut_wal.ts";
import { scrubTimeline } from "../../pagestore/mod.ts";
import type { Timeline } from "../timeline/timeline.ts";
import { scrubTimelineWal } from "./fsck_wal.ts";

export const RESTORE_LAYER =
  'put the file back from a copy; reads of what is in it fail until then. "zenith fsck" of the stopped page server checks everything';

export interface ScrubSource {
  readonly disk: Disk;
  readonly paths: PageServerPaths;
  tenants(): readonly TenantId[];
  /** The timeline if it is open, null while it is being opened; never opens it. */
  ifOpen(tenant: TenantId, timeline: TimelineId): Timeline | null | undefined;
}

/** All timelines on disk, open or not. @throws {ZenithError} `io` */
export function* scrubItems(source: ScrubSource): Generator<ScrubItem> {
  const { disk, paths } = source;
  for (const tenantId of source.tenants()) {
    const directory = paths.timelines(tenantId);
    // It may have been deleted since the pass began.
    if (disk.statSync(directory) === null) continue;
    const names = withIoErrors("list", directory, () => disk.readdirSync(directory));
    for (const timelineId of names.filter(isIdFileName).map(parseTimelineId)) {
      yield {
        tenantId,
        timelineId,
        check: () => checkTimeline(source, tenantId, timelineId),
        exists: () => disk.statSync(paths.timeline(tenantId, timelineId)) !== null,
      };
    }
  }
}

/**
 * What was cut off at a start, until somebody has removed what was kept of it. @throws as {@link
 * scrubItems}
 */
export function cutOff({ disk, paths, tenants }: Omit<ScrubSource, "ifOpen">): FoundDamage[] {
  const timelinesOf = (tenant: TenantId): TimelineId[] => {
    const directory = paths.timelines(tenant);
    if (disk.statSync(directory) === null) return [];
    return withIoErrors("list", directory, () => disk.readdirSync(directory)).filter(isIdFileName)
      .map(parseTimelineId);
  };
  return tenants().flatMap((tenantId) =>
    timelinesOf(tenantId).flatMap((timelineId) =>
      cutWalIn(disk, paths.timelineWal(tenantId, timelineId)).map(({ from, to, directory }) => ({
        tenantId,
        timelineId,
        damage: {
          what: `WAL from ${formatLsn(from)} to ${formatLsn(to)} was damaged when it was opened, and cut off`,
          hint: `safekeepers send it again if they still have it; what they have removed is lost from ${
            formatLsn(from)
          } on. The damaged files are in ${directory}: remove them when nothing is missing`,
        },
      }))
    )
  );
}

async function* checkTimeline(
  source: ScrubSource,
  tenantId: TenantId,
  timelineId: TimelineId,
): AsyncGenerator<number, readonly Damage[]> {
  const { disk, paths } = source;
  const directory = paths.timeline(tenantId, timelineId);
  const problems = (yield* scrubTimeline(disk, directory)).map((what) => ({ what, hint: RESTORE_LAYER }));
  const timeline = source.ifOpen(tenantId, timelineId);
  // It is being replayed, which checks it too.
  if (timeline === null) return problems;
  const end = timeline === undefined ? null : endOfWal(timeline);
  const inWal = yield* scrubTimelineWal(disk, directory, end);
  // Somebody has opened it since, cuts its end and writes there.
  if (end === null && source.ifOpen(tenantId, timelineId) !== undefined) return problems;
  return [...problems, ...inWal];
}

/** Up to where nobody changes it any more, and up to where records are whole. */
function endOfWal({ position, wal }: Timeline): { through: Lsn; wholeTo: Lsn } {
  const through = Math.min(position, wal.syncedLsn) as Lsn;
  return { through, wholeTo: position <= wal.syncedLsn ? through : INVALID_LSN };
}
