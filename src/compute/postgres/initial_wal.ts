import { closeSync, ftruncateSync } from "node:fs";
import { join } from "node:path";
import { withIoErrors } from "../../common/errors.ts";
import { ForeignDirectory } from "../../common/foreign_directory.ts";
import { parseWalFileName } from "../../postgres/wal/page_header.ts";

/**
 * A lazy basebackup has of the WAL segments that Postgres starts from what is in use. Makes them as long as Postgres wants them; the
 * rest takes no room on the disk.
 *
 * @throws {ZenithError} `io`
 */
export function extendInitialWal(pgdata: string, segmentSize: number): void {
  using root = ForeignDirectory.open(pgdata);
  using directory = root.directory("pg_wal");
  for (const name of directory.names()) {
    if (parseWalFileName(name, segmentSize) === undefined) continue;
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
