/**
 * Where PostgreSQL's timelines begin in a timeline's WAL, at one safekeeper. It is written before
 * the WAL that goes over to the next one, and says nothing of WAL that is not there. Without the
 * file, WAL is of timeline 1. docs/formats/small_files.md describes it.
 */
import { dirname } from "node:path";
import { type Disk, replaceFileSync } from "../common/disk.ts";
import { errorMessage, ioError, ZenithError } from "../common/errors.ts";
import { formatLsn, parseLsn } from "../common/lsn.ts";
import { encodeSmallFile, SmallFile, type SmallFormat } from "../common/small_file.ts";
import type { Logger } from "../process/log.ts";
import { FIRST_TIMELINE, type WalTimelines } from "../postgres/wal/wal_timelines.ts";

/** A line is `<timeline> <LSN>`, from timeline 2 on. */
export const WAL_TIMELINES_FORMAT: SmallFormat<WalTimelines> = {
  title: "zenith wal timelines",
  encode: (timelines) => timelines.map((begin, i) => `${i + 2} ${formatLsn(begin)}`),
  decode: (lines) =>
    lines.map((line, i) => {
      const [, tli, begin] = /^(\d{1,10}) (\S+)$/.exec(line) ?? [];
      if (Number(tli) !== i + 2) throw new Error(`"${line.slice(0, 100)}" is not timeline ${i + 2}`);
      return parseLsn(begin!);
    }),
};

/**
 * A damaged file counts as none: the page server knows the same, and commits must go on.
 *
 * @throws {ZenithError} `io`
 */
export function readWalTimelines(disk: Disk, path: string, logger: Logger): WalTimelines {
  try {
    return new SmallFile(disk, path, WAL_TIMELINES_FORMAT).read() ?? FIRST_TIMELINE;
  } catch (error) {
    if (!(error instanceof ZenithError) || error.kind !== "corrupt_data") throw error;
    logger.error(`${errorMessage(error)}: the page server is asked for what it said`);
    return FIRST_TIMELINE;
  }
}

/** Replaces the file durably. @throws {ZenithError} `io`, `disk_full` */
export function writeWalTimelines(disk: Disk, path: string, timelines: WalTimelines): void {
  try {
    replaceFileSync(disk, dirname(path), path, encodeSmallFile(WAL_TIMELINES_FORMAT, timelines));
  } catch (error) {
    throw ioError("replace", path, error);
  }
}
