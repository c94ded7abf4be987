/** Compresses blocks of layer files, the large ones in a thread of its own that all timelines share. */
import { Worker } from "node:worker_threads";
import * as zlib from "node:zlib";
import { assert } from "../common/assert.ts";
import { crc32c } from "../common/crc32c.ts";
import { ZenithError } from "../common/errors.ts";
import { workerUrl } from "../common/worker_url.ts";

/** A block as it goes into the file. */
export interface StoredBlock {
  readonly bytes: Uint8Array;
  /** CRC-32C of {@link bytes}. */
  readonly crc: number;
}

/** Blocks to compress; the reply is as many of {@link StoredBlock}, in the same order. */
export type CompressRequest = readonly Uint8Array[];
export type CompressReply = readonly StoredBlock[];

/** A smaller block is compressed sooner than another thread has heard of it. */
const WORKER_FROM_BYTES = 16 << 10;

const ZSTD_OPTIONS: zlib.ZstdOptions = { params: { [zlib.constants.ZSTD_c_compressionLevel]: 1 } };

/** Compressed, unless that would make it longer. */
export function storeBlock(raw: Uint8Array): StoredBlock {
  const compressed = zlib.zstdCompressSync(raw, ZSTD_OPTIONS);
  // A copy of its own: a small result lies in a large buffer that is shared, or will be.
  const bytes = compressed.length < raw.length ? new Uint8Array(compressed) : raw;
  return { bytes, crc: crc32c(bytes, 0, bytes.length) };
}

/**
 * As {@link storeBlock}, elsewhere if that pays.
 *
 * @param raw the whole of its buffer, which is given away: it is empty afterwards
 * @throws {ZenithError} `io` when the thread has died
 */
export function compressBlock(raw: Uint8Array<ArrayBuffer>): Promise<StoredBlock> {
  if (raw.length < WORKER_FROM_BYTES) return Promise.resolve(storeBlock(raw));
  compressor ??= new Compressor();
  return compressor.compress(raw);
}

interface Job {
  readonly raw: Uint8Array<ArrayBuffer>;
  resolve(block: StoredBlock): void;
  reject(error: unknown): void;
}

let compressor: Compressor | null = null;

/** Waking the other thread costs as much as a tenth of a block, so that it gets all that has come while it was busy. */
class Compressor {
  readonly #worker: Worker;
  #running: readonly Job[] = [];
  #waiting: Job[] = [];

  constructor() {
    this.#worker = new Worker(workerUrl("src/pagestore/compress_worker.ts"));
    // Only a block that is waited for keeps the process alive.
    this.#worker.unref();
    this.#worker.on("message", (reply: CompressReply) => this.#finish(reply));
    this.#worker.on("error", (error) => this.#died(error));
    this.#worker.on("exit", (code) => this.#died(new Error(`exit code ${code}`)));
  }

  compress(raw: Uint8Array<ArrayBuffer>): Promise<StoredBlock> {
    return new Promise((resolve, reject) => {
      // Its buffer changes hands now, not when the other thread gets to it.
      this.#waiting.push({ raw: structuredClone(raw, { transfer: [raw.buffer] }), resolve, reject });
      if (this.#running.length === 0) this.#start();
    });
  }

  #start(): void {
    const jobs = this.#waiting;
    this.#running = jobs;
    this.#waiting = [];
    const request: CompressRequest = jobs.map((job) => job.raw);
    this.#worker.ref();
    this.#worker.postMessage(request, jobs.map((job) => job.raw.buffer));
  }

  #finish(reply: CompressReply): void {
    const jobs = this.#running;
    assert(jobs.length === reply.length, "every block is compressed once");
    this.#running = [];
    if (this.#waiting.length > 0) this.#start();
    else this.#worker.unref();
    jobs.forEach((job, i) => job.resolve(reply[i]!));
  }

  #died(cause: unknown): void {
    // The next block gets a new thread.
    if (compressor === this) compressor = null;
    const error = new ZenithError("io", "the thread that compresses layers has died", { cause });
    for (const job of [...this.#running, ...this.#waiting]) job.reject(error);
    this.#running = [];
    this.#waiting = [];
  }
}
