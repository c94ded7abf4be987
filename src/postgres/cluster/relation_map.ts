/**
 * `pg_filenode.map`: the files of the catalogs that Postgres must find before it can read catalogs.
 * src/backend/utils/cache/relmapper.c
 */
import { ZenithError } from "../../common/errors.ts";

/** RELMAPPER_FILENAME for the relations that all databases share. */
export const SHARED_RELATION_MAP_PATH = "global/pg_filenode.map";

/** RELMAPPER_FILEMAGIC */
const MAGIC = 0x592717;
const MAPPINGS = 8;
const MAPPING_BYTES = 8;
/** MAX_MAPPINGS */
const MAX_MAPPINGS = 62;

/**
 * The relfilenode of each mapped catalog by its OID.
 *
 * @throws {ZenithError} `corrupt_data`
 */
export function parseRelationMap(bytes: Uint8Array): ReadonlyMap<number, number> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const count = bytes.length < MAPPINGS ? -1 : view.getInt32(4, true);
  const fits = count >= 0 && count <= MAX_MAPPINGS && MAPPINGS + count * MAPPING_BYTES <= bytes.length;
  if (!fits || view.getUint32(0, true) !== MAGIC) {
    throw new ZenithError("corrupt_data", `${SHARED_RELATION_MAP_PATH} is no relation map`);
  }
  const map = new Map<number, number>();
  for (let at = MAPPINGS; at < MAPPINGS + count * MAPPING_BYTES; at += MAPPING_BYTES) {
    map.set(view.getUint32(at, true), view.getUint32(at + 4, true));
  }
  return map;
}
