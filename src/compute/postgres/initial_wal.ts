import { Buffer } from "node:buffer";
import { closeSync, ftruncateSync, writeSync } from "node:fs";
import { join } from "node:path";
import { ioError, ZenithError } from "../../common/errors.ts";
import { ForeignDirectory } from "../../common/foreign_directory.ts";
import type { Lsn } from "../../common/lsn.ts";
import type { PgUser } from "../../pg_install/pg_user.ts";
import type { ControlFile } from "../../postgres/control_file.ts";
import { BLCKSZ } from "../../postgres/cluster/page_layout.ts";
import { buildInitialSegments } from "../../postgres/initial_segment.ts";
import { walFileName } from "../../postgres/wal/page_header.ts";

const FILE_MODE = 0o600;
const ZERO_PAGE = new Uint8Array(BLCKSZ);

/**
 * Writes the WAL that Postgres starts from: the shutdown checkpoint that the control file points at. The segment's many zeros are
 * holes.
 *
 * @param prev start of the record before the checkpoint
 * @throws {ZenithError} `disk_full`, `io`
 */
export function writeInitialWal(
  pgdata: string,
  control: ControlFile,
  prev: Lsn,
  owner: PgUser | undefined,
): void {
  const segmentSize = control.xlog_seg_size;
  const checkpoint = control.checkPointCopy;
  const segments = buildInitialSegments({
    pg: control.pg,
    lsn: control.checkPoint,
    prev,
    systemIdentifier: control.system_identifier,
    segmentSize,
    checkpoint,
  });
  using root = ForeignDirectory.open(pgdata);
  using directory = root.directory("pg_wal");
  for (const { segmentStart, bytes } of segments) {
    const name = walFileName(checkpoint.ThisTimeLineID, segmentStart, segmentSize);
    try {
      const fd = directory.createFile(name, FILE_MODE, owner);
      try {
        for (let at = 0; at < bytes.length; at += BLCKSZ) {
          const page = bytes.subarray(at, at + BLCKSZ);
          if (Buffer.compare(page, ZERO_PAGE) !== 0) writeSync(fd, page, 0, page.length, at);
        }
        ftruncateSync(fd, segmentSize);
      } finally {
        closeSync(fd);
      }
    } catch (error) {
      throw error instanceof ZenithError ? error : ioError("write", join(directory.path, name), error);
    }
  }
}
