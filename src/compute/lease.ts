import { readFileSync } from "node:fs";
import { join } from "node:path";
import { errorMessage, ioError, ZenithError } from "../common/errors.ts";
import type { Logger } from "../common/log.ts";
import { formatLsn, type Lsn } from "../common/lsn.ts";
import { CONTROL_FILE_PATH, parseControlFile } from "../postgres/control_file.ts";
import { takeLease } from "./page_server_link.ts";
import type { ComputeIdentity } from "./postgres_conf.ts";
import { sleep } from "./sleep.ts";

/** A third of what the page server grants with a basebackup. */
const LEASE_RENEWAL_MS = 200_000;

/** Files that are fetched when they are read are read at the LSN of the start, for as long as this compute lives. */
export async function keepLease(
  compute: ComputeIdentity,
  lsn: Lsn,
  log: Logger,
  stopping: AbortSignal,
): Promise<void> {
  for (;;) {
    await sleep(LEASE_RENEWAL_MS, stopping);
    if (stopping.aborted) return;
    try {
      await takeLease(compute, lsn, stopping);
    } catch (error) {
      if (!stopping.aborted) {
        log.warn(`could not prolong the lease of ${formatLsn(lsn)}: ${errorMessage(error)}`);
      }
    }
  }
}

/** Where a data directory that was just fetched starts. */
export function controlFileLsn(pgdata: string): Lsn {
  const path = join(pgdata, CONTROL_FILE_PATH);
  try {
    return parseControlFile(readFileSync(path)).checkPoint;
  } catch (error) {
    throw error instanceof ZenithError ? error : ioError("read", path, error);
  }
}
