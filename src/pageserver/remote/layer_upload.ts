/** Uploads layer files. */
import { crc32c } from "../../common/crc32c.ts";
import type { Disk } from "../../common/disk.ts";
import { ioError, ZenithError } from "../../common/errors.ts";
import { nextTurn } from "../../common/event_loop.ts";
import type { ObjectStore } from "../../object_store/object_store.ts";

/** How much is read, or its checksum computed, before other work gets its turn. */
const PIECE_BYTES = 1 << 20;

/**
 * Uploads a layer file.
 *
 * @returns the CRC-32C of its bytes
 * @throws what the disk throws when the file is not there
 */
export async function uploadFile(
  disk: Disk,
  path: string,
  sizeBytes: number,
  store: ObjectStore,
  key: string,
): Promise<number> {
  const bytes = new Uint8Array(sizeBytes);
  const file = disk.openSync(path, "read");
  let crc = 0;
  try {
    for (let at = 0; at < sizeBytes; at += PIECE_BYTES) {
      const length = Math.min(PIECE_BYTES, sizeBytes - at);
      if (file.readSync(bytes, at, length, at) < length) {
        throw new ZenithError("corrupt_data", `${path} has fewer than ${sizeBytes} bytes`);
      }
      crc = crc32c(bytes, at, length, crc);
      await nextTurn();
    }
  } finally {
    file.closeSync();
  }
  await store.put(key, bytes);
  return crc;
}

/** Creates a file, durably but for its name. @throws {ZenithError} `disk_full`, `io` */
export async function writeFile(disk: Disk, path: string, bytes: Uint8Array): Promise<void> {
  try {
    const file = disk.openSync(path, "create");
    try {
      file.writeSync(bytes, 0, bytes.length, 0);
      await file.fsync();
    } finally {
      file.closeSync();
    }
  } catch (error) {
    throw ioError("write", path, error);
  }
}
