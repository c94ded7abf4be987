/**
 * `pg_logical/replorigin_checkpoint`: how far each replication origin has come. Source:
 * CheckPointReplicationOrigin in src/backend/replication/logical/origin.c.
 */
import { crc32c } from "../../common/crc32c.ts";
import { ZenithError } from "../../common/errors.ts";

/** REPLICATION_STATE_MAGIC */
const MAGIC = 0x1257dade;
const MAGIC_BYTES = 4;
const CRC_BYTES = 4;
// ReplicationStateOnDisk: the origin's id u16, padding, its LSN u64.
const STATE_BYTES = 16;
const REMOTE_LSN = 8;
const LSN_BYTES = 8;

/** Returns the file. @param origins each id with its LSN, eight bytes */
export function encodeReplicationOrigins(origins: readonly (readonly [number, Uint8Array])[]): Uint8Array {
  const content = new Uint8Array(MAGIC_BYTES + origins.length * STATE_BYTES + CRC_BYTES);
  const view = new DataView(content.buffer);
  view.setUint32(0, MAGIC, true);
  let at = MAGIC_BYTES;
  for (const [id, remoteLsn] of origins) {
    view.setUint16(at, id, true);
    content.set(remoteLsn, at + REMOTE_LSN);
    at += STATE_BYTES;
  }
  view.setUint32(at, crc32c(content, 0, at), true);
  return content;
}

/**
 * Returns each origin's id with its LSN, eight bytes.
 *
 * @param where the file's name, for messages
 * @throws {ZenithError} `corrupt_data`
 */
export function parseReplicationOrigins(bytes: Uint8Array, where: string): [number, Uint8Array][] {
  const statesBytes = bytes.length - MAGIC_BYTES - CRC_BYTES;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const isWhole = statesBytes >= 0 && statesBytes % STATE_BYTES === 0 && view.getUint32(0, true) === MAGIC &&
    view.getUint32(bytes.length - CRC_BYTES, true) === crc32c(bytes, 0, bytes.length - CRC_BYTES);
  if (!isWhole) throw new ZenithError("corrupt_data", `${where} is damaged`);
  const origins: [number, Uint8Array][] = [];
  for (let at = MAGIC_BYTES; at < bytes.length - CRC_BYTES; at += STATE_BYTES) {
    origins.push([view.getUint16(at, true), bytes.slice(at + REMOTE_LSN, at + REMOTE_LSN + LSN_BYTES)]);
  }
  return origins;
}
