/** Reads a data directory's WAL from the files in pg_wal. */
import { closeSync, existsSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import type { Lsn } from "../../src/common/lsn.ts";
import type { PgVersion } from "../../src/postgres/versions/pg_version.ts";
import { WalDecoder } from "../../src/postgres/wal/decoder.ts";
import { segmentStart, WAL_SEGMENT_SIZE_DEFAULT, walFileName } from "../../src/postgres/wal/page_header.ts";
import { WalRecord } from "../../src/postgres/wal/record.ts";

const CHUNK_SIZE = 1 << 20;
const TIMELINE = 1;

/** Calls `visit` with every record from `startLsn` to the end of the WAL. The record is only valid during the call. */
export function replayWal(
  pg: PgVersion,
  dataDir: string,
  startLsn: Lsn,
  visit: (rec: WalRecord) => void,
): void {
  const segmentSize = WAL_SEGMENT_SIZE_DEFAULT;
  const decoder = new WalDecoder({ pg, startLsn, segmentSize, zerosAreEnd: true });
  const rec = new WalRecord();
  const chunk = new Uint8Array(CHUNK_SIZE);
  for (let lsn = segmentStart(startLsn, segmentSize); !decoder.ended; lsn = (lsn + segmentSize) as Lsn) {
    const file = join(dataDir, "pg_wal", walFileName(TIMELINE, lsn, segmentSize));
    if (!existsSync(file)) return;
    const fd = openSync(file, "r");
    try {
      for (let off = 0; off < segmentSize && !decoder.ended; off += CHUNK_SIZE) {
        const length = readSync(fd, chunk, 0, CHUNK_SIZE, off);
        if (length === 0) return;
        decoder.feed(chunk.subarray(0, length), (lsn + off) as Lsn);
        while (decoder.next(rec)) visit(rec);
      }
    } finally {
      closeSync(fd);
    }
  }
}
