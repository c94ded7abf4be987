/**
 * `INCREMENTAL.<file>`: what has changed of a file since another backup. Sources:
 * src/include/backup/basebackup_incremental.h, sendFile in src/backend/backup/basebackup.c.
 */
import { ZenithError } from "../../common/errors.ts";
import { BLCKSZ } from "./page_layout.ts";
import { RELSEG_SIZE } from "./relfile.ts";

const PREFIX = "INCREMENTAL.";
const MAGIC = 0xd3ae1f0d;

// Offsets in bytes. Numbers are 32 bits, in the machine's order.
const BLOCK_COUNT = 4;
const TRUNCATION_BLOCKS = 8;
const BLOCKS = 12;
const BLOCK_NUMBER_BYTES = 4;

/** The header of a file of which every block has changed, padded to whole blocks. */
export const MAX_HEADER_BYTES = Math.ceil((BLOCKS + RELSEG_SIZE * BLOCK_NUMBER_BYTES) / BLCKSZ) * BLCKSZ;

export interface IncrementalHeader {
  /** The shortest that the file was since the other backup, in blocks. */
  readonly truncationBlocks: number;
  /** The numbers of the blocks that follow the header, within the file. */
  readonly blocks: readonly number[];
  /** The header's length. */
  readonly bytes: number;
}

/** @param name without its directory */
export function isIncrementalName(name: string): boolean {
  return name.startsWith(PREFIX);
}

/** `base/5/INCREMENTAL.1259` → `base/5/1259` */
export function nameWithoutPrefix(path: string): string {
  const at = path.lastIndexOf("/") + 1;
  return path.slice(0, at) + path.slice(at + PREFIX.length);
}

/** The other way round. */
export function withPrefix(path: string): string {
  const at = path.lastIndexOf("/") + 1;
  return path.slice(0, at) + PREFIX + path.slice(at);
}

/** How long the whole file is, in blocks. */
export function blocksOf({ truncationBlocks, blocks }: IncrementalHeader): number {
  return blocks.reduce((length, block) => Math.max(length, block + 1), truncationBlocks);
}

/**
 * @param head the file's beginning, {@link MAX_HEADER_BYTES} or all of it
 * @param size the whole file's
 * @throws {ZenithError} `corrupt_data`, naming `path`
 */
export function parseIncrementalHeader(head: Uint8Array, size: number, path: string): IncrementalHeader {
  if (head.length < BLOCKS) throw damaged(path, `has ${head.length} bytes, expected at least ${BLOCKS}`);
  const view = new DataView(head.buffer, head.byteOffset, head.length);
  const magic = view.getUint32(0, true);
  if (magic !== MAGIC) {
    throw damaged(path, `begins with ${magic.toString(16)}, expected ${MAGIC.toString(16)}`);
  }
  const count = view.getUint32(BLOCK_COUNT, true);
  const truncationBlocks = view.getUint32(TRUNCATION_BLOCKS, true);
  if (count > RELSEG_SIZE) throw damaged(path, `has ${count} blocks, expected at most ${RELSEG_SIZE}`);
  if (truncationBlocks > RELSEG_SIZE) {
    throw damaged(path, `is of a file of ${truncationBlocks} blocks, expected at most ${RELSEG_SIZE}`);
  }
  const unpadded = BLOCKS + count * BLOCK_NUMBER_BYTES;
  // The blocks are aligned, where there are any.
  const bytes = count === 0 ? unpadded : Math.ceil(unpadded / BLCKSZ) * BLCKSZ;
  if (size !== bytes + count * BLCKSZ) {
    throw damaged(path, `has ${size} bytes, expected ${bytes + count * BLCKSZ} for ${count} blocks`);
  }
  const blocks = Array.from(
    { length: count },
    (_, i) => view.getUint32(BLOCKS + i * BLOCK_NUMBER_BYTES, true),
  );
  const beyond = blocks.find((block) => block >= RELSEG_SIZE);
  if (beyond !== undefined) throw damaged(path, `has a block ${beyond}, expected one below ${RELSEG_SIZE}`);
  return { truncationBlocks, blocks, bytes };
}

function damaged(path: string, what: string): ZenithError {
  return new ZenithError("corrupt_data", `the backup is damaged: ${path} ${what}`);
}
