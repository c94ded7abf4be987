/** Answers reads that have to wait for the page server. */
import { systemErrorCode, type ZenithError } from "../../../common/errors.ts";
import { BLCKSZ } from "../../../postgres/cluster/page_layout.ts";
import { device } from "../fuse/device.ts";
import { EIO, isUnmounted } from "../fuse/errno.ts";
import type { MissedRead } from "../files/fuse_session.ts";
import type { PageFetcher, PageWaiter } from "./page_fetcher.ts";
import { UNIT_BYTES } from "../files/presence.ts";
import { IO_MAX_BYTES, OUT_HEADER_BYTES } from "../fuse/protocol.ts";

/** Sends a reply to the kernel. */
export type ReplyWriter = (reply: Uint8Array) => void;

const UNITS_PER_BLOCK = BLCKSZ / UNIT_BYTES;

/** Fetches the pages that a READ misses, and answers the READ when all of them have arrived. */
export function answerMissedRead(miss: MissedRead, fetcher: PageFetcher, write: ReplyWriter): void {
  const answer = new Answer(miss, write);
  const { missing } = miss;
  for (let run = 0; run < missing.length; run += 2) {
    const block = Math.floor(missing[run] / UNITS_PER_BLOCK);
    const end = Math.ceil(missing[run + 1] / UNITS_PER_BLOCK);
    answer.expect(fetcher.fetch(miss.inode, miss.remote, block, end - block, answer));
  }
}

/** Answers a READ with EIO. */
export function failMissedRead(miss: MissedRead, write: ReplyWriter): void {
  write(withHeader(new Uint8Array(OUT_HEADER_BYTES), miss, -EIO));
}

/**
 * The reply whose pages arrive all at once, which is written before the next one is begun. A new
 * buffer for each would cost as much as everything else: the kernel gives it out page by page.
 */
let wholeReply: Uint8Array | undefined;

function takeWholeReply(bytes: number): Uint8Array {
  wholeReply ??= new Uint8Array(OUT_HEADER_BYTES + IO_MAX_BYTES);
  return wholeReply.subarray(0, bytes);
}

/** One reply that is being put together. */
class Answer implements PageWaiter {
  readonly #miss: MissedRead;
  readonly #write: ReplyWriter;
  #reply: Uint8Array | undefined;
  #outstanding = 0;
  #failed = false;

  get keeps(): boolean {
    return this.#miss.isRepeated;
  }

  constructor(miss: MissedRead, write: ReplyWriter) {
    this.#miss = miss;
    this.#write = write;
  }

  expect(calls: number): void {
    this.#outstanding += calls;
  }

  deliver(block: number, count: number, bytes: Uint8Array, at: number): void {
    const { missing, offset } = this.#miss;
    const fetchedStart = block * BLCKSZ;
    const fetchedEnd = fetchedStart + count * BLCKSZ;
    const end = offset + this.#miss.bytes;
    const reply = this.#reply ??= this.#beginReply();
    for (let run = 0; run < missing.length; run += 2) {
      // Copy only what was missing, because pages that were written here may lie beside it.
      const from = Math.max(missing[run] * UNIT_BYTES, fetchedStart, offset);
      const to = Math.min(missing[run + 1] * UNIT_BYTES, fetchedEnd, end);
      if (from >= to) continue;
      const source = at + from - fetchedStart;
      reply.set(bytes.subarray(source, source + to - from), OUT_HEADER_BYTES + from - offset);
    }
    this.#settleOne();
  }

  #beginReply(): Uint8Array {
    const { missing, offset, bytes, overlay } = this.#miss;
    const length = OUT_HEADER_BYTES + bytes;
    const isOneRun = missing.length === 2 && missing[0] * UNIT_BYTES <= offset &&
      missing[1] * UNIT_BYTES >= offset + bytes;
    if (isOneRun && this.#outstanding === 1 && bytes <= IO_MAX_BYTES) return takeWholeReply(length);
    const reply = new Uint8Array(length);
    if (overlay !== undefined) reply.set(overlay, OUT_HEADER_BYTES);
    return reply;
  }

  fail(_error: ZenithError): void {
    this.#failed = true;
    this.#settleOne();
  }

  #settleOne(): void {
    this.#outstanding--;
    if (this.#outstanding > 0) return;
    if (this.#failed) failMissedRead(this.#miss, this.#write);
    else this.#write(withHeader(this.#reply!, this.#miss, 0));
  }
}

/** @param error 0, or a negative error number */
function withHeader(reply: Uint8Array, { unique }: MissedRead, error: number): Uint8Array {
  const header = new DataView(reply.buffer, reply.byteOffset, OUT_HEADER_BYTES);
  header.setUint32(0, reply.length, true);
  header.setInt32(4, error, true);
  header.setUint32(8, unique[0], true);
  header.setUint32(12, unique[1], true);
  return reply;
}

/** Returns a writer that sends replies to the mount's device, each in one write. */
export function deviceWriter(deviceFd: number): ReplyWriter {
  return (reply) => {
    try {
      device.write(deviceFd, reply, reply.length);
    } catch (error) {
      // The caller no longer waits for the reply, or the mount is gone.
      if (systemErrorCode(error) !== "ENOENT" && !isUnmounted(error)) throw error;
    }
  };
}
