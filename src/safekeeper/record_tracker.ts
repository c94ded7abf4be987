import { BufferPool } from "../common/buffer_pool.ts";
import type { Lsn } from "../common/lsn.ts";
import { CHUNK_SIZE, WalDecoder } from "../postgres/wal/decoder.ts";
import type { PgVersion } from "../postgres/versions/pg_version.ts";
import { WalRecord } from "../postgres/wal/record.ts";

/** One is enough: it is read and forgotten at once. */
const RECORD = new WalRecord();

/** For the same reason chunks are used again at once, by all timelines: as garbage they would lie there by the hundred. */
const CHUNKS = new BufferPool(CHUNK_SIZE);

/**
 * Follows a log record by record, so that it is known up to where it consists of whole ones, and nothing is accepted that is
 * not WAL: checksums, the chain of records and page headers are checked on the way.
 */
export class RecordTracker {
  readonly #decoder: WalDecoder;
  #recordEndLsn: Lsn;
  /** End of the newest record; its padding may not have come. */
  #newestEndLsn: Lsn;

  /** @param startLsn a record boundary */
  constructor(pg: PgVersion, startLsn: Lsn, segmentSize: number, systemId: bigint) {
    this.#decoder = new WalDecoder({
      pg,
      startLsn,
      segmentSize,
      systemId,
      buffers: CHUNKS,
      passesOver: () => true,
    });
    this.#recordEndLsn = startLsn;
    this.#newestEndLsn = startLsn;
  }

  /** The end of the last record that is there whole, padding included. */
  get recordEndLsn(): Lsn {
    return this.#recordEndLsn;
  }

  /**
   * Takes the next bytes.
   *
   * @throws {WalError} when they are not WAL; the tracker is of no use then
   */
  feed(lsn: Lsn, bytes: Uint8Array): void {
    this.#decoder.feed(bytes, lsn);
    const fedLsn = lsn + bytes.length;
    if (this.#newestEndLsn <= fedLsn) this.#recordEndLsn = this.#newestEndLsn;
    while (this.#decoder.next(RECORD)) {
      this.#newestEndLsn = RECORD.endLsn as Lsn;
      if (this.#newestEndLsn <= fedLsn) this.#recordEndLsn = this.#newestEndLsn;
    }
  }
}
