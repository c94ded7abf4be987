/**
 * Tells a compute that is about to start which pages a comparison will read. It fetches them as it
 * fetches what was hot at its last stop, many at a time. A Postgres that misses them waits for each
 * on its way through the mount to the page server and back.
 */
import { writeFileSync } from "node:fs";
import { ioError } from "../../common/errors.ts";
import type { ComputePaths } from "../../common/paths.ts";
import { encodeHotPages, type HotRange } from "../../compute/lazy/pages/hot_pages.ts";
import { RELSEG_SIZE } from "../../postgres/cluster/relfile.ts";
import type { ChangedRelation } from "../page_server_client.ts";

/** 64 MiB. A comparison of more takes its time anyway, and a compute would keep them all. */
const PAGES_MAX = 8192;

const MAIN_FORK = 0;

/**
 * Writes the list for a compute that has not started yet.
 *
 * @param changed the pages that differ, of all databases
 * @returns whether the compute is to be started with `prewarm`
 * @throws {ZenithError} `io`
 */
export function expectPages({ hotPages }: ComputePaths, changed: readonly ChangedRelation[]): boolean {
  const ranges: HotRange[] = [];
  let pages = 0;
  for (const { spc, db, rel, ranges: blocks } of changed) {
    for (let i = 0; i < blocks.length; i += 2) {
      const end = blocks[i + 1];
      pages += end - blocks[i];
      if (pages > PAGES_MAX) return false;
      // A range is of one segment.
      for (let block = blocks[i]; block < end;) {
        const count = Math.min(end, block - block % RELSEG_SIZE + RELSEG_SIZE) - block;
        ranges.push({ spc, db, rel, fork: MAIN_FORK, block, count });
        block += count;
      }
    }
  }
  if (ranges.length === 0) return false;
  try {
    writeFileSync(hotPages, encodeHotPages(ranges));
  } catch (error) {
    throw ioError("write", hotPages, error);
  }
  return true;
}
