/** Decides what to fetch ahead of need, step by step. */
import type { PgVersion } from "../../../postgres/versions/pg_version.ts";
import { BLCKSZ } from "../../../postgres/cluster/page_layout.ts";
import { relationPath, RELSEG_SIZE } from "../../../postgres/cluster/relfile.ts";
import type { FileData } from "../files/file_data.ts";
import type { ExpectedRead } from "../files/first_reads.ts";
import type { HotRange } from "./hot_pages.ts";
import type { InodeTable } from "../files/inode_table.ts";
import type { OverlaySpace } from "../files/overlay_space.ts";
import { UNIT_BYTES } from "../files/presence.ts";

/**
 * How much is fetched at a time: 512 KiB. A read that misses may find this much ahead of it on the
 * connection. It fits the ring of `KeptPages` beside what such reads put there.
 */
const STEP_BLOCKS = 64;

/**
 * Decides what to fetch ahead of need, a little at a time. Each step takes only what is missing
 * then, so it leaves out blocks that were fetched, written, truncated or dropped meanwhile.
 */
export class PrewarmPlan {
  readonly #pg: PgVersion;
  readonly #inodes: InodeTable;
  readonly #data: FileData;
  readonly #space: OverlaySpace;
  readonly #ranges: readonly HotRange[];
  #range = 0;
  /** How many blocks of the current range are done. */
  #done = 0;

  constructor(
    parts: {
      readonly pg: PgVersion;
      readonly inodes: InodeTable;
      readonly data: FileData;
      readonly space: OverlaySpace;
    },
    ranges: readonly HotRange[],
  ) {
    this.#pg = parts.pg;
    this.#inodes = parts.inodes;
    this.#data = parts.data;
    this.#space = parts.space;
    this.#ranges = ranges;
  }

  /**
   * Returns the next step. Empty when everything is here, or when the overlay holds as much as it
   * may.
   */
  next(): ExpectedRead[] {
    const reads: ExpectedRead[] = [];
    if (!this.#space.hasRoomFor(STEP_BLOCKS * BLCKSZ)) return reads;
    let left = STEP_BLOCKS;
    while (left > 0 && this.#range < this.#ranges.length) {
      const range = this.#ranges[this.#range];
      const count = Math.min(left, range.count - this.#done);
      if (count <= 0) {
        this.#range++;
        this.#done = 0;
        continue;
      }
      left -= this.#addMissing(reads, range, range.block + this.#done, count);
      this.#done += count;
    }
    return reads;
  }

  /** @returns how many blocks were added */
  #addMissing(reads: ExpectedRead[], { spc, db, rel, fork }: HotRange, block: number, count: number): number {
    const segment = Math.floor(block / RELSEG_SIZE);
    const inode = this.#inodes.at(
      relationPath(this.#pg, { spcNode: spc, dbNode: db, relNode: rel }, fork, segment),
    );
    if (inode === undefined || inode.remote === null) return 0;
    let blocks = 0;
    const offset = (block - segment * RELSEG_SIZE) * BLCKSZ;
    const missing = this.#data.missing(inode, offset, count * BLCKSZ);
    for (let run = 0; run < missing.length; run += 2) {
      const first = Math.floor(missing[run] * UNIT_BYTES / BLCKSZ);
      const end = Math.ceil(missing[run + 1] * UNIT_BYTES / BLCKSZ);
      reads.push({ inode: inode.id, remote: inode.remote, block: first, blocks: end - first });
      blocks += end - first;
    }
    return blocks;
  }
}
