/** Completes the WAL segments of a lazy basebackup. */
import { closeSync, ftruncateSync } from "node:fs";
import { join } from "node:path";
import { withIoErrors } from "../../common/errors.ts";
import { ForeignDirectory } from "../../common/foreign_directory.ts";
import { parseWalFileName } from "../../postgres/wal/page_header.ts";

/**
 * Extends the WAL segments that Postgres starts from to the length that it expects. A lazy
 * basebackup contains only their used part. The rest takes no space on the disk. Links to older
 * segments stay as they are.
 *
 * @throws {ZenithError} `io`
 */
export function extendInitialWal(pgdata: string, segmentSize: number): void {
  using root = ForeignDirectory.open(pgdata);
  using directory = root.directory("pg_wal");
  for (const name of directory.names()) {
    if (parseWalFileName(name, segmentSize) === undefined || !directory.lstat(name)?.isFile()) continue;
    withIoErrors("extend", join(directory.path, name), () => {
      const fd = directory.openFile(name);
      try {
        ftruncateSync(fd, segmentSize);
      } finally {
        closeSync(fd);
      }
    });
  }
}
