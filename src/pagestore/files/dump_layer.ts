/** Dumps the contents of a layer file for people to read. */
import type { Disk } from "../../common/disk.ts";
import { formatLsn, type Lsn } from "../../common/lsn.ts";
import { BlockCache } from "../layer/block_cache.ts";
import { LayerCursor } from "../layer/layer_cursor.ts";
import { localLayers } from "../layer/layer_files.ts";
import { LayerReader, readLayerInfo } from "../layer/layer_reader.ts";
import { formatObject, ObjectTable, SIZE_BLOCK } from "../value/object_id.ts";
import { VALUE_WILL_INIT } from "../value/value_chain.ts";

const CACHE_BYTES = 4 << 20;

/**
 * Yields the lines of a dump: one for the file, one per key and, if `versions` is set, one per
 * version.
 *
 * @throws {ZenithError} `corrupt_data`, `io`
 */
export function* dumpLayer(disk: Disk, path: string, versions: boolean): Generator<string> {
  const info = readLayerInfo(disk, path);
  const reader = new LayerReader(
    localLayers(disk),
    path,
    info,
    new BlockCache(CACHE_BYTES),
    new ObjectTable(),
  );
  try {
    reader.verify();
    const head = reader.readHead();
    yield `delta layer, LSNs ${formatLsn(info.startLsn as Lsn)} to ` +
      `${
        formatLsn(info.endLsn as Lsn)
      }, ${info.fileSize} bytes: ${head.objectCount} objects, ${head.keyCount} keys, ` +
      `${head.entryCount} versions in ${head.data.count} blocks`;
    for (const cursor = new LayerCursor(reader); !cursor.done; cursor.nextKey()) {
      const block = cursor.block === SIZE_BLOCK ? "size" : `block ${cursor.block}`;
      yield `${formatObject(cursor.object)} ${block}`;
      while (versions && cursor.nextEntry()) {
        const willInit = (cursor.flags & VALUE_WILL_INIT) !== 0 ? ", needs none before" : "";
        yield `  ${formatLsn(cursor.lsn as Lsn)}: tag ${cursor.tag}, ${cursor.len} bytes${willInit}`;
      }
    }
  } finally {
    reader.close();
  }
}
