/**
 * `pg_filenode.map`: which file a mapped catalog (pg_class and the like) lives in.
 *
 * Format: RelMapFile in src/backend/utils/cache/relmapper.c.
 */
import { crc32c } from "../common/crc32c.ts";
import { ZenithError } from "../common/errors.ts";

export const RELMAP_FILE_NAME = "pg_filenode.map";
/** sizeof(RelMapFile). */
export const RELMAP_SIZE = 512;
/** RELMAPPER_FILEMAGIC of PostgreSQL 15. */
const RELMAPPER_FILEMAGIC = 0x592717;
const MAX_MAPPINGS = 62;

// Offsets in RelMapFile.
const MAGIC = 0;
const NUM_MAPPINGS = 4;
const MAPPINGS = 8;
const CRC = MAPPINGS + MAX_MAPPINGS * 8;

export interface RelMapping {
  /** Oid of the catalog. */
  mapoid: number;
  /** The file that it is in (relNode). */
  mapfilenode: number;
}

/**
 * Checks and reads a relation map.
 *
 * @throws {ZenithError} `corrupt_data` when size, magic number, count or checksum are wrong
 */
export function parseRelmap(bytes: Uint8Array): RelMapping[] {
  if (bytes.length !== RELMAP_SIZE) {
    throw corrupt(`it has ${bytes.length} bytes, expected ${RELMAP_SIZE}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, RELMAP_SIZE);
  const magic = view.getUint32(MAGIC, true);
  if (magic !== RELMAPPER_FILEMAGIC) {
    throw corrupt(`magic is 0x${magic.toString(16)}, expected 0x${RELMAPPER_FILEMAGIC.toString(16)}`);
  }
  const count = view.getUint32(NUM_MAPPINGS, true);
  if (count > MAX_MAPPINGS) throw corrupt(`${count} mappings, expected at most ${MAX_MAPPINGS}`);
  const stored = view.getUint32(CRC, true);
  const computed = crc32c(bytes, 0, CRC);
  if (stored !== computed) {
    throw corrupt(`checksum is 0x${computed.toString(16)}, the file says 0x${stored.toString(16)}`);
  }
  const mappings: RelMapping[] = [];
  for (let i = 0; i < count; i++) {
    mappings.push({
      mapoid: view.getUint32(MAPPINGS + 8 * i, true),
      mapfilenode: view.getUint32(MAPPINGS + 8 * i + 4, true),
    });
  }
  return mappings;
}

function corrupt(problem: string): ZenithError {
  return new ZenithError("corrupt_data", `invalid relation map: ${problem}`);
}
