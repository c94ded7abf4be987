/** Finds where the last whole record of a growing log ends. */
import { BufferPool } from "../common/buffer_pool.ts";
import type { Lsn } from "../common/lsn.ts";
import { CHUNK_SIZE, WalDecoder } from "../postgres/wal/decoder.ts";
import type { PgVersion } from "../postgres/versions/pg_version.ts";
import { WalRecord } from "../postgres/wal/record.ts";

/** One is enough: each record is read and forgotten at once. */
const RECORD = new WalRecord();

/**
 * For the same reason all timelines reuse these chunks at once; as garbage, hundreds would pile up.
 */
const CHUNKS = new BufferPool(CHUNK_SIZE);

/**
 * Follows a log record by record. It knows up to where the log consists of whole records, and
 * accepts nothing that is not WAL: it checks checksums, the chain of records and page headers on
 * the way.
 */
export class RecordTracker {
  readonly #decoder: WalDecoder;
  #recordEndLsn: Lsn;
  /** End of the newest record; its padding may not have arrived. */
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

  /** The end of the last record that is here as a whole, padding included. */
  get recordEndLsn(): Lsn {
    return this.#recordEndLsn;
  }

  /**
   * Takes the next bytes.
   *
   * @throws {WalError} when they are not WAL; the tracker can't be used any more then
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
