/**
 * The file that lists the pages that a compute has used, so that its next start can fetch them
 * ahead of need. docs/formats/hot_pages.md is the specification.
 */
import type { PgVersion } from "../../../postgres/versions/pg_version.ts";
import { crc32c } from "../../../common/crc32c.ts";
import { ZenithError } from "../../../common/errors.ts";
import { BLCKSZ } from "../../../postgres/cluster/page_layout.ts";
import { parseRelationPath, RELSEG_SIZE } from "../../../postgres/cluster/relfile.ts";
import type { Inode } from "../files/inode.ts";
import { UNIT_BYTES } from "../files/presence.ts";

/** "ZHOT". */
const MAGIC = 0x5a484f54;
const VERSION = 1;

const OFFSET_VERSION = 4;
const OFFSET_RANGES = 8;
const OFFSET_RESERVED = 12;
const HEADER_BYTES = 16;

const RANGE_SPC = 0;
const RANGE_DB = 4;
const RANGE_REL = 8;
const RANGE_FORK = 12;
const RANGE_BLOCK = 16;
const RANGE_COUNT = 20;
const RANGE_BYTES = 24;

const CRC_BYTES = 4;

/** 1.5 MiB of ranges. */
const HOT_RANGES_MAX = 1 << 16;

/** A range of blocks of one relation fork, all in one segment. */
export interface HotRange {
  readonly spc: number;
  /** 0 for a relation that all databases share. */
  readonly db: number;
  readonly rel: number;
  readonly fork: number;
  /** Counted from the fork's start. */
  readonly block: number;
  readonly count: number;
}

export function encodeHotPages(ranges: readonly HotRange[]): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + ranges.length * RANGE_BYTES + CRC_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC);
  view.setUint32(OFFSET_VERSION, VERSION);
  view.setUint32(OFFSET_RANGES, ranges.length);
  let at = HEADER_BYTES;
  for (const { spc, db, rel, fork, block, count } of ranges) {
    view.setUint32(at + RANGE_SPC, spc);
    view.setUint32(at + RANGE_DB, db);
    view.setUint32(at + RANGE_REL, rel);
    view.setUint32(at + RANGE_FORK, fork);
    view.setUint32(at + RANGE_BLOCK, block);
    view.setUint32(at + RANGE_COUNT, count);
    at += RANGE_BYTES;
  }
  view.setUint32(at, crc32c(bytes, 0, at));
  return bytes;
}

/** @throws {ZenithError} `corrupt_data` when it is not a list of hot pages, or a damaged one */
export function decodeHotPages(bytes: Uint8Array): HotRange[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < HEADER_BYTES + CRC_BYTES || view.getUint32(0) !== MAGIC) {
    throw malformed(`${bytes.length} bytes that do not begin with its magic number`);
  }
  const version = view.getUint32(OFFSET_VERSION);
  if (version !== VERSION) throw malformed(`version ${version}, this program reads version ${VERSION}`);
  const count = view.getUint32(OFFSET_RANGES);
  const end = HEADER_BYTES + count * RANGE_BYTES;
  if (bytes.length !== end + CRC_BYTES) throw malformed(`${bytes.length} bytes for ${count} ranges`);
  if (view.getUint32(end) !== crc32c(bytes, 0, end)) throw malformed("its checksum is wrong");
  if (view.getUint32(OFFSET_RESERVED) !== 0) throw malformed("a reserved field is not zero");
  const ranges: HotRange[] = [];
  for (let at = HEADER_BYTES; at < end; at += RANGE_BYTES) {
    ranges.push({
      spc: view.getUint32(at + RANGE_SPC),
      db: view.getUint32(at + RANGE_DB),
      rel: view.getUint32(at + RANGE_REL),
      fork: view.getUint32(at + RANGE_FORK),
      block: view.getUint32(at + RANGE_BLOCK),
      count: view.getUint32(at + RANGE_COUNT),
    });
  }
  return ranges;
}

function malformed(what: string): ZenithError {
  return new ZenithError("corrupt_data", `list of hot pages: ${what}`);
}

/**
 * Lists what Postgres has read and written below `root`, except what the overlay has evicted since.
 * Files with the fewest such pages come first: those are catalogs and indexes, whose pages are
 * missed one by one. A table that was scanned comes last.
 *
 * @param limit the most ranges
 */
export function collectHotPages(pg: PgVersion, root: Inode, limit = HOT_RANGES_MAX): HotRange[] {
  const files: { readonly blocks: number; readonly ranges: readonly HotRange[] }[] = [];
  const visit = (directory: Inode, prefix: string): void => {
    for (const [name, inode] of directory.children!) {
      const path = prefix + name;
      if (inode.children !== null) {
        visit(inode, `${path}/`);
        continue;
      }
      const ranges = hotRanges(pg, path, inode);
      if (ranges.length > 0) {
        files.push({ blocks: ranges.reduce((sum, { count }) => sum + count, 0), ranges });
      }
    }
  };
  visit(root, "");
  files.sort((a, b) => a.blocks - b.blocks);
  const all: HotRange[] = [];
  for (const { ranges } of files) {
    for (const range of ranges) {
      if (all.length === limit) return all;
      all.push(range);
    }
  }
  return all;
}

const UNITS_PER_BLOCK = BLCKSZ / UNIT_BYTES;

function hotRanges(pg: PgVersion, path: string, inode: Inode): HotRange[] {
  const file = parseRelationPath(pg, path);
  if (file === undefined || file.temporary) return [];
  const ranges: HotRange[] = [];
  const { spcNode, dbNode, relNode } = file.rel;
  const firstBlock = file.segno * RELSEG_SIZE;
  const add = (block: number, end: number): void => {
    if (block >= end) return;
    const name = { spc: spcNode, db: dbNode, rel: relNode, fork: file.forkNum };
    ranges.push({ ...name, block: firstBlock + block, count: end - block });
  };
  const remoteBlocks = inode.remoteEnd / BLCKSZ;
  let start = 0;
  let end = 0;
  // Units come in order. Two units of one block, or of neighbouring blocks, make one range.
  inode.presence?.forEachHot((unit) => {
    const block = Math.floor(unit / UNITS_PER_BLOCK);
    if (block > end) {
      add(start, end);
      start = block;
    }
    end = block + 1;
  });
  if (end < remoteBlocks) {
    add(start, end);
    start = remoteBlocks;
  }
  // Everything after the page server's part was written here.
  add(start, Math.max(remoteBlocks, Math.ceil(inode.size / BLCKSZ)));
  return ranges;
}
