/**
 * Checks a safekeeper's data at rest: each timeline's control file and its WAL, both the committed
 * part and what was written after it.
 */
import { basename, join, resolve } from "node:path";
import type { DataCheck } from "../common/data_check.ts";
import { type Disk, TEMPORARY_SUFFIX } from "../common/disk.ts";
import { errorMessage } from "../common/errors.ts";
import { isIdFileName } from "../common/id.ts";
import { formatLsn, INVALID_LSN, type Lsn } from "../common/lsn.ts";
import { CONTROL_FILE, DELETED_SUFFIX } from "../common/paths.ts";
import { pgVersion } from "../postgres/versions/find_version.ts";
import { checkWalAtOnce, endOfWritten, segmentFiles } from "../wal_store/check_wal.ts";
import { WalStore } from "../wal_store/wal_store.ts";
import { type ControlFile, decodeControlFile } from "./control_file.ts";

/** A working directory holds tenants, which hold timelines. */
const TIMELINE_DEPTH = 2;

/** Tells the operator what to do about damage. */
export const RESTORE =
  "Stop the safekeeper and move the timeline's directory away: the next compute that starts fills it from another safekeeper. " +
  "Where this one is the only one, put the file back from a copy";

/**
 * Whether a directory holds timelines of a safekeeper.
 *
 * @param dir a safekeeper's working directory, or a tenant or timeline in it
 */
export function holdsSafekeeperTimelines(disk: Disk, dir: string): boolean {
  return timelineDirectories(disk, resolve(dir)).length > 0;
}

/**
 * Reads everything below `dir`. Nobody may write there meanwhile.
 *
 * @param dir as for {@link holdsSafekeeperTimelines}
 */
export async function* checkSafekeeperData(disk: Disk, dir: string): AsyncGenerator<DataCheck> {
  for (const path of timelineDirectories(disk, resolve(dir))) yield await timelineCheck(disk, path);
}

/** Returns the directories that have a control file, or WAL without one. */
function timelineDirectories(disk: Disk, dir: string, depth = TIMELINE_DEPTH): string[] {
  if (disk.statSync(dir)?.isDirectory !== true) return [];
  const isTimeline = disk.statSync(join(dir, CONTROL_FILE)) !== null ||
    (isIdFileName(basename(dir)) && segmentFiles(disk, dir).length > 0);
  if (isTimeline) return [dir];
  if (depth === 0) return [];
  return disk.readdirSync(dir).filter(isIdFileName).sort()
    .flatMap((name) => timelineDirectories(disk, join(dir, name), depth - 1));
}

async function timelineCheck(disk: Disk, path: string): Promise<DataCheck> {
  const strays = disk.readdirSync(path)
    .filter((name) => name.endsWith(TEMPORARY_SUFFIX) || name.endsWith(DELETED_SUFFIX))
    .map((name) => join(path, name));
  try {
    const file = join(path, CONTROL_FILE);
    const control = decodeControlFile(disk.readFileSync(file), file);
    const { bytes, problems } = await walCheck(disk, path, control);
    return { path, counts: null, walBytes: bytes, strays, problems };
  } catch (error) {
    const problems = [`${errorMessage(error)}. ${RESTORE}`];
    return { path, counts: null, walBytes: null, strays, problems };
  }
}

async function walCheck(
  disk: Disk,
  path: string,
  { identity, control }: ControlFile,
): Promise<{ bytes: number; problems: readonly string[] }> {
  const { timelineStartLsn, commitLsn } = control;
  if (timelineStartLsn === INVALID_LSN) return { bytes: 0, problems: [] };
  if (segmentFiles(disk, path).length === 0) {
    if (commitLsn <= timelineStartLsn) return { bytes: 0, problems: [] };
    const problem = `${path} has no WAL segment, but ${formatLsn(commitLsn)} is committed. ${RESTORE}`;
    return { bytes: 0, problems: [problem] };
  }
  const { segmentSize, systemId } = identity;
  const options = { segmentSize, disk, startLsn: timelineStartLsn, sync: false };
  const store = await WalStore.open(path, options);
  try {
    const { bytes, damages } = checkWalAtOnce(store, {
      pg: pgVersion(identity.pgVersion),
      systemId,
      // The control file lags behind, so more WAL may be committed than it says.
      through: Math.max(commitLsn, endOfWritten(store)) as Lsn,
      wholeTo: commitLsn,
    });
    return { bytes, problems: damages.map(({ what }) => `${what}. ${RESTORE}`) };
  } finally {
    await store.close();
  }
}
