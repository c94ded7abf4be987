/** Finds where the last whole record of a growing log ends. */
import { BufferPool } from "../common/buffer_pool.ts";
import type { Lsn } from "../common/lsn.ts";
import { CHUNK_SIZE, WalDecoder } from "../postgres/wal/decoder.ts";
import type { PgVersion } from "../postgres/versions/pg_version.ts";
import { WalRecord } from "../postgres/wal/record.ts";
import { isEndOfRecovery } from "../postgres/wal/timeline_switch.ts";

/** One record is enough: each is read and dropped at once. */
const RECORD = new WalRecord();

/**
 * All timelines share these chunks for the same reason. As garbage, hundreds of chunks would pile
 * up.
 */
const CHUNKS = new BufferPool(CHUNK_SIZE);

/**
 * Follows a log record by record. It knows up to where the log consists of whole records. It
 * accepts only WAL: it checks the checksums, the chain of records and the page headers.
 */
export class RecordTracker {
  readonly #decoder: WalDecoder;
  readonly #onEndOfRecovery: (record: WalRecord) => void;
  #recordEndLsn: Lsn;
  /** The end of the newest record. Its padding may not have arrived yet. */
  #newestEndLsn: Lsn;

  /**
   * @param startLsn a record boundary
   * @param onEndOfRecovery sees the records that may lead to another timeline of PostgreSQL
   */
  constructor(
    pg: PgVersion,
    startLsn: Lsn,
    segmentSize: number,
    systemId: bigint,
    onEndOfRecovery: (record: WalRecord) => void,
  ) {
    this.#onEndOfRecovery = onEndOfRecovery;
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

  /** The end of the last record that has arrived whole, padding included. */
  get recordEndLsn(): Lsn {
    return this.#recordEndLsn;
  }

  /**
   * Takes the next bytes.
   *
   * @throws {WalError} when the bytes are not WAL; the tracker can't be used any more then
   */
  feed(lsn: Lsn, bytes: Uint8Array): void {
    this.#decoder.feed(bytes, lsn);
    const fedLsn = lsn + bytes.length;
    if (this.#newestEndLsn <= fedLsn) this.#recordEndLsn = this.#newestEndLsn;
    while (this.#decoder.next(RECORD)) {
      if (isEndOfRecovery(RECORD)) this.#onEndOfRecovery(RECORD);
      this.#newestEndLsn = RECORD.endLsn as Lsn;
      if (this.#newestEndLsn <= fedLsn) this.#recordEndLsn = this.#newestEndLsn;
    }
  }
}
