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

export interface CompressRequest {
  readonly id: number;
  readonly raw: Uint8Array;
}

export interface CompressReply {
  readonly id: number;
  readonly block: StoredBlock;
}

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

interface Waiter {
  resolve(block: StoredBlock): void;
  reject(error: unknown): void;
}

let compressor: Compressor | null = null;

class Compressor {
  readonly #worker: Worker;
  readonly #waiters = new Map<number, Waiter>();
  #nextId = 1;

  constructor() {
    this.#worker = new Worker(workerUrl("src/pagestore/compress_worker.ts"));
    // Only a block that is waited for keeps the process alive.
    this.#worker.unref();
    this.#worker.on("message", ({ id, block }: CompressReply) => {
      const waiter = this.#waiters.get(id);
      assert(waiter !== undefined, "a block is compressed once");
      this.#waiters.delete(id);
      if (this.#waiters.size === 0) this.#worker.unref();
      waiter.resolve(block);
    });
    this.#worker.on("error", (error) => this.#died(error));
    this.#worker.on("exit", (code) => this.#died(new Error(`exit code ${code}`)));
  }

  compress(raw: Uint8Array<ArrayBuffer>): Promise<StoredBlock> {
    return new Promise((resolve, reject) => {
      const request: CompressRequest = { id: this.#nextId++, raw };
      if (this.#waiters.size === 0) this.#worker.ref();
      this.#waiters.set(request.id, { resolve, reject });
      this.#worker.postMessage(request, [raw.buffer]);
    });
  }

  #died(cause: unknown): void {
    // The next block gets a new thread.
    if (compressor === this) compressor = null;
    const error = new ZenithError("io", "the thread that compresses layers has died", { cause });
    for (const waiter of this.#waiters.values()) waiter.reject(error);
    this.#waiters.clear();
  }
}
