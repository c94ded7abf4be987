/** Writes a frozen memory layer out as a delta layer file. */
import type { Disk } from "../common/disk.ts";
import { LAYER_DELTA } from "./layer_format.ts";
import { LayerWriter, type WrittenLayer } from "./layer_writer.ts";
import type { MemoryLayer } from "./memory_layer.ts";
import type { ObjectId, ObjectTable } from "./object_id.ts";

export interface EncodedValue {
  readonly tag: number;
  readonly bytes: Uint8Array;
  readonly off: number;
  readonly len: number;
}

/** The form in which a value is to be stored. The result may be the same object at every call. */
export type EncodeValue = (
  tag: number,
  bytes: Uint8Array,
  off: number,
  len: number,
  object: ObjectId,
  block: number,
) => EncodedValue;

/**
 * Leaves `path` complete and durable, or not there at all. Gives way to other work after each block of the file.
 *
 * @throws {ZenithError} `disk_full`, `io`
 */
export async function flushLayer(
  disk: Disk,
  directory: string,
  path: string,
  memory: MemoryLayer,
  endLsn: number,
  objects: ObjectTable,
  encodeValue: EncodeValue | undefined,
): Promise<WrittenLayer> {
  const writer = new LayerWriter(disk, directory, path, LAYER_DELTA, memory.startLsn, endLsn);
  try {
    const slots = Array.from({ length: memory.objectCount }, (_, i) => memory.objectSlot(i));
    slots.sort((x, y) => objects.compare(x, y));
    const entries: number[] = [];
    for (const slot of slots) {
      const object = objects.object(slot);
      for (const block of memory.blocksOf(slot)) {
        writer.startKey(object, block);
        memory.entriesOf(slot, block, entries);
        for (const entry of entries) {
          const lsn = memory.entryLsn(entry);
          const flags = memory.entryFlags(entry);
          let tag = memory.entryTag(entry);
          let bytes = memory.entryBytes(entry);
          let off = memory.entryOff(entry);
          let len = memory.entryLen(entry);
          if (encodeValue !== undefined) {
            ({ tag, bytes, off, len } = encodeValue(tag, bytes, off, len, object, block));
          }
          if (writer.add(lsn, bytes, off, len, tag, flags)) await writer.drain();
        }
      }
    }
    return await writer.finish(memory.starts);
  } catch (error) {
    writer.abort();
    throw error;
  }
}
