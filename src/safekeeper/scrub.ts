/**
 * Defines what a scrub checks at a safekeeper: each timeline's control file and all committed WAL.
 */
import type { Disk } from "../common/disk.ts";
import { ioError } from "../common/errors.ts";
import { INVALID_LSN, type Lsn } from "../common/lsn.ts";
import type { SafekeeperPaths } from "../common/paths.ts";
import { pgVersion } from "../postgres/versions/find_version.ts";
import type { Damage, FoundDamage, ScrubItem } from "../process/scrub.ts";
import { cutWalIn, describeCutWal } from "../wal_store/cut_wal.ts";
import { scrubWal } from "../wal_store/scrub_wal.ts";
import { decodeControlFile } from "./control_file.ts";
import { RESTORE } from "./fsck.ts";
import type { TimelineName, Timelines } from "./timelines.ts";

/** Returns all timelines on disk, in memory or not. @throws when the directory can't be read */
export function scrubItems(disk: Disk, paths: SafekeeperPaths, timelines: Timelines): ScrubItem[] {
  return timelines.list().map((name) => ({
    ...name,
    check: () => checkTimeline(disk, paths, timelines, name),
    exists: () => disk.statSync(paths.timeline(name.tenantId, name.timelineId)) !== null,
  }));
}

async function* checkTimeline(
  disk: Disk,
  paths: SafekeeperPaths,
  timelines: Timelines,
  name: TimelineName,
): AsyncGenerator<number, readonly Damage[]> {
  const { tenantId, timelineId } = name;
  const file = paths.controlFile(tenantId, timelineId);
  const { identity, control } = decodeControlFile(read(disk, file), file);
  const { timelineStartLsn } = control;
  if (timelineStartLsn === INVALID_LSN) return [];
  // The control file lags behind the state in memory.
  const commitLsn = Math.max(
    control.commitLsn,
    timelines.ifLoaded(name)?.state.commitLsn ?? INVALID_LSN,
  ) as Lsn;
  if (commitLsn <= timelineStartLsn) return [];
  const damages = yield* scrubWal({
    disk,
    dir: paths.timeline(tenantId, timelineId),
    segmentSize: identity.segmentSize,
    timelineStartLsn,
    pg: pgVersion(identity.pgVersion),
    systemId: identity.systemId,
    through: commitLsn,
    wholeTo: commitLsn,
  });
  return damages.map(({ what }) => ({ what, hint: RESTORE }));
}

/**
 * WAL that was cut off at a start and kept aside, until somebody removes it. @throws as
 * {@link scrubItems}
 */
export function cutOff(disk: Disk, paths: SafekeeperPaths, timelines: Timelines): FoundDamage[] {
  return timelines.list().flatMap(({ tenantId, timelineId }) =>
    cutWalIn(disk, paths.timeline(tenantId, timelineId)).map((cut) => ({
      tenantId,
      timelineId,
      damage: describeCutWal(
        cut,
        "other safekeepers and the page server may have it; after a power failure it may never have been " +
          "acknowledged",
      ),
    }))
  );
}

function read(disk: Disk, path: string): Uint8Array {
  try {
    return disk.readFileSync(path);
  } catch (error) {
    throw ioError("read", path, error);
  }
}
