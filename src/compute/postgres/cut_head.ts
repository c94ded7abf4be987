/** Completes a WAL segment that came without its beginning. */
import { closeSync, writeSync } from "node:fs";
import { join } from "node:path";
import { withIoErrors, ZenithError } from "../../common/errors.ts";
import { ForeignDirectory, readForeignFile } from "../../common/foreign_directory.ts";
import type { Lsn } from "../../common/lsn.ts";
import { CONTROL_FILE_PATH, parseControlFile, PG_CONTROL_FILE_SIZE } from "../../postgres/control_file.ts";
import { writeSegmentHead } from "../../postgres/segment_head.ts";
import {
  pageOffset,
  parseWalFileName,
  SIZE_OF_XLOG_LONG_PHD,
  XLOG_BLCKSZ,
} from "../../postgres/wal/page_header.ts";
import type { CutSegment } from "../../protocol/cut_segment.ts";

/**
 * Writes the page headers that lead to where the segment's WAL begins. The rest of these pages
 * stays a hole in the file.
 *
 * @throws {ZenithError} `protocol` when the name is not one of a segment, `io`
 */
export function writeCutHead(pgdata: string, { name, begin }: CutSegment): void {
  const control = readForeignFile(join(pgdata, CONTROL_FILE_PATH), PG_CONTROL_FILE_SIZE);
  const { pg, xlog_seg_size: segmentSize, system_identifier: systemId } = parseControlFile(control);
  const segment = parseWalFileName(name, segmentSize);
  if (segment === undefined || begin >= segmentSize) {
    throw new ZenithError("protocol", `the basebackup has WAL from ${begin} on in a segment ${name}`);
  }
  const head = { pg, startLsn: (segment.lsn + begin) as Lsn, segmentSize, systemId };
  const header = new Uint8Array(SIZE_OF_XLOG_LONG_PHD);
  using root = ForeignDirectory.open(pgdata);
  using wal = root.directory("pg_wal");
  const fd = wal.openFile(name);
  try {
    withIoErrors("write", join(wal.path, name), () => {
      for (let page = 0; page < begin - pageOffset(begin); page += XLOG_BLCKSZ) {
        writeSegmentHead(header, 0, segment.lsn + page, header.length, head);
        writeSync(fd, header, 0, header.length, page);
      }
    });
  } finally {
    closeSync(fd);
  }
}
