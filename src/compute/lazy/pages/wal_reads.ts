/** Answers reads of WAL segments that only the page server has. */
import { assert } from "../../../common/assert.ts";
import { errorMessage } from "../../../common/errors.ts";
import type { Lsn } from "../../../common/lsn.ts";
import { BLCKSZ } from "../../../postgres/cluster/page_layout.ts";
import { segmentStart } from "../../../postgres/wal/page_header.ts";
import type { Logger } from "../../../process/log.ts";
import type { ReadWal, SegmentRange } from "../../postgres/slot_wal.ts";
import type { MissedRead } from "../files/fuse_session.ts";
import { answerMissedRead, failMissedRead, type ReplyWriter } from "./missed_reads.ts";
import type { PageFetcher } from "./page_fetcher.ts";

/** The WAL from before a start that a lazy compute fetches when somebody reads it. */
export interface LazyWal {
  readonly range: SegmentRange;
  /** What has to be done before anybody reads it. Done once, unless it throws. */
  readonly prepare: (read: ReadWal) => Promise<void>;
}

/** Lets readers wait until the WAL is prepared, and fetches it for them. */
export class WalReads {
  readonly #wal: LazyWal;
  readonly #fetcher: PageFetcher;
  readonly #write: ReplyWriter;
  readonly #log: Logger;
  #ready: Promise<void> | undefined;

  constructor(wal: LazyWal, fetcher: PageFetcher, write: ReplyWriter, log: Logger) {
    this.#wal = wal;
    this.#fetcher = fetcher;
    this.#write = write;
    this.#log = log;
  }

  /** Answers the READ, with EIO when the page server does not. Never rejects. */
  async answer(miss: MissedRead): Promise<void> {
    try {
      await (this.#ready ??= this.#wal.prepare((lsn, length) => this.#read(lsn, length)));
    } catch (error) {
      // The next read tries again.
      this.#ready = undefined;
      this.#log.warn(`WAL that replication slots need can't be read: ${errorMessage(error)}`);
      return failMissedRead(miss, this.#write);
    }
    answerMissedRead(miss, this.#fetcher, this.#write);
  }

  #read(lsn: Lsn, length: number): Promise<Uint8Array> {
    const { segmentSize } = this.#wal.range;
    const walStart = segmentStart(lsn, segmentSize);
    // No file has such an inode, so nobody else fetches the same.
    const inode = -1 - walStart / segmentSize;
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
    const calls = this.#fetcher.fetch(inode, { walStart }, (lsn - walStart) / BLCKSZ, length / BLCKSZ, {
      keeps: false,
      deliver: (_block, count, bytes, at) => resolve(bytes.slice(at, at + count * BLCKSZ)),
      fail: reject,
    });
    assert(calls === 1, "WAL is read in pieces that one request may ask for");
    return promise;
  }
}
