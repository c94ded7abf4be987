/** Reads a data directory's WAL from the files in pg_wal. */
import assert from "node:assert/strict";
import { closeSync, existsSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import type { Lsn } from "../../src/common/lsn.ts";
import type { PgVersion } from "../../src/postgres/versions/pg_version.ts";
import { WalDecoder } from "../../src/postgres/wal/decoder.ts";
import { segmentStart, WAL_SEGMENT_SIZE_DEFAULT, walFileName } from "../../src/postgres/wal/page_header.ts";
import { WalRecord } from "../../src/postgres/wal/record.ts";

const CHUNK_SIZE = 1 << 20;
const SEGMENT_SIZE = WAL_SEGMENT_SIZE_DEFAULT;
const TIMELINE = 1;

/** Reads the records of a data directory's WAL in order, of a server that may go on writing behind them. */
export class WalReplay {
  readonly #dataDir: string;
  readonly #decoder: WalDecoder;
  readonly #rec = new WalRecord();
  readonly #chunk = new Uint8Array(CHUNK_SIZE);
  /** The decoder has been fed up to here. */
  #lsn: Lsn;

  constructor(pg: PgVersion, dataDir: string, startLsn: Lsn) {
    this.#dataDir = dataDir;
    this.#decoder = new WalDecoder({ pg, startLsn, segmentSize: SEGMENT_SIZE, zerosAreEnd: true });
    this.#lsn = segmentStart(startLsn, SEGMENT_SIZE);
  }

  /**
   * Calls `visit` with every record that it has not been called with and that ends at or before `endLsn`; without one, up to
   * the end of the WAL. The record is only valid during the call.
   *
   * @param endLsn at most what the server has flushed: it may write the rest at any time
   */
  advance(visit: (rec: WalRecord) => void, endLsn = Infinity): void {
    while (this.#lsn < endLsn && !this.#decoder.ended) {
      const start = segmentStart(this.#lsn, SEGMENT_SIZE);
      const file = join(this.#dataDir, "pg_wal", walFileName(TIMELINE, start, SEGMENT_SIZE));
      if (!existsSync(file)) return;
      this.#readSegment(file, start, Math.min(endLsn, start + SEGMENT_SIZE), visit);
    }
  }

  #readSegment(file: string, start: Lsn, endLsn: number, visit: (rec: WalRecord) => void): void {
    const fd = openSync(file, "r");
    try {
      while (this.#lsn < endLsn && !this.#decoder.ended) {
        const length = readSync(
          fd,
          this.#chunk,
          0,
          Math.min(CHUNK_SIZE, endLsn - this.#lsn),
          this.#lsn - start,
        );
        assert(length > 0, `${file} is shorter than a segment`);
        this.#decoder.feed(this.#chunk.subarray(0, length), this.#lsn);
        this.#lsn = (this.#lsn + length) as Lsn;
        while (this.#decoder.next(this.#rec)) visit(this.#rec);
      }
    } finally {
      closeSync(fd);
    }
  }
}

/** Calls `visit` with every record from `startLsn` to the end of a stopped server's WAL. */
export function replayWal(
  pg: PgVersion,
  dataDir: string,
  startLsn: Lsn,
  visit: (rec: WalRecord) => void,
): void {
  new WalReplay(pg, dataDir, startLsn).advance(visit);
}
