/**
 * Builds protocol messages in pooled buffers and hands them to a socket in batches. Everything that
 * is written before control returns to the event loop leaves in one write.
 */
import { Buffer } from "node:buffer";
import type { Socket } from "node:net";
import { assert } from "../common/assert.ts";
import { WRITE_HIGH_WATER_BYTES, WRITE_LOW_WATER_BYTES } from "./limits.ts";
import { COPY_DATA } from "./message_types.ts";

/** Holds fifteen pages with their headers. A full buffer is written at once. */
const CHUNK_BYTES = 128 * 1024;
const POOL_MAX_CHUNKS = 64;
/**
 * Holds a mebibyte of pages with its headers. A new buffer of this size costs more than what is
 * done with it: the kernel has to clear its memory page by page.
 */
const LARGE_CHUNK_BYTES = (1 << 20) + 4096;
const POOL_MAX_LARGE_CHUNKS = 8;
const HEADER_BYTES = 5;

const EMPTY = Buffer.alloc(0);

/** All connections of this thread share the pool, so an idle connection holds no buffer. */
const pool: Buffer[] = [];
const largePool: Buffer[] = [];

function takeChunk(minBytes: number): Buffer {
  if (minBytes <= CHUNK_BYTES) return pool.pop() ?? Buffer.allocUnsafeSlow(CHUNK_BYTES);
  if (minBytes > LARGE_CHUNK_BYTES) return Buffer.allocUnsafeSlow(minBytes);
  return largePool.pop() ?? Buffer.allocUnsafeSlow(LARGE_CHUNK_BYTES);
}

function giveChunk(chunk: Buffer): void {
  if (chunk.length === CHUNK_BYTES && pool.length < POOL_MAX_CHUNKS) pool.push(chunk);
  else if (chunk.length === LARGE_CHUNK_BYTES && largePool.length < POOL_MAX_LARGE_CHUNKS) {
    largePool.push(chunk);
  }
}

export class FrameWriter {
  /**
   * The buffer being filled and the offset of its next byte. Both change with every call that makes
   * room.
   */
  bytes: Buffer = EMPTY;
  pos = 0;

  /** Called when the output has drained after backpressure. */
  onDrain: (() => void) | undefined;

  #socket: Socket;
  #frameStart = -1;
  /** Buffers that were handed to the socket and are not yet written, oldest first. */
  readonly #inFlight: Buffer[] = [];
  readonly #inFlightLengths: number[] = [];
  #inFlightBytes = 0;
  #congested = false;
  #corked = false;
  #flushScheduled = false;
  #closed = false;
  #drainWaiters: (() => void)[] = [];

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  /**
   * Writes to `socket` from now on. It has taken over the present socket. Flush before calling
   * this.
   */
  changeSocket(socket: Socket): void {
    assert(this.pos === 0, "changeSocket() with unflushed output");
    this.#socket = socket;
  }

  /** How many bytes have not reached the kernel. */
  get pendingBytes(): number {
    return this.#inFlightBytes + this.pos;
  }

  /** Whether the peer reads more slowly than output is produced. */
  get congested(): boolean {
    if (this.pendingBytes > WRITE_HIGH_WATER_BYTES) this.#congested = true;
    return this.#congested;
  }

  /**
   * Corks the writer: only full buffers are flushed until {@link uncork}, which flushes the rest.
   */
  cork(): void {
    this.#corked = true;
  }

  uncork(): void {
    this.#corked = false;
    this.flush();
  }

  /** Starts a message whose length is known only at {@link finish}. */
  begin(type: number): void {
    assert(this.#frameStart < 0, "begin() inside a message");
    this.reserve(HEADER_BYTES);
    this.bytes[this.pos] = type;
    this.#frameStart = this.pos + 1;
    this.pos += HEADER_BYTES;
  }

  finish(): void {
    const start = this.#frameStart;
    assert(start >= 0, "finish() without begin()");
    putInt32(this.bytes, start, this.pos - start);
    this.#frameStart = -1;
    if (this.pos >= CHUNK_BYTES / 2) this.flush();
    else this.scheduleFlush();
  }

  /** Writes a whole message without a body. */
  empty(type: number): void {
    this.begin(type);
    this.finish();
  }

  /** Writes the single byte that answers an SSLRequest. It is not a message. */
  rawByte(value: number): void {
    this.reserve(1);
    this.bytes[this.pos++] = value;
    this.scheduleFlush();
  }

  /**
   * Writes the header of a CopyData message with exactly `len` bytes of payload. Returns where in
   * `bytes` the caller must put the payload, before any other call on this writer.
   */
  copyData(len: number): number {
    assert(this.#frameStart < 0, "copyData() inside a message");
    const total = HEADER_BYTES + len;
    if (this.pos > 0 && this.pos + total > this.bytes.length) this.flush();
    this.reserve(total);
    const bytes = this.bytes;
    const pos = this.pos;
    bytes[pos] = COPY_DATA;
    putInt32(bytes, pos + 1, len + 4);
    this.pos = pos + total;
    return pos + HEADER_BYTES;
  }

  /** Makes room for `count` more bytes. `bytes` may be another buffer afterwards. */
  reserve(count: number): void {
    const needed = this.pos + count;
    if (needed <= this.bytes.length) return;
    const old = this.bytes;
    const chunk = takeChunk(old.length === 0 ? needed : Math.max(needed, old.length * 2));
    if (this.pos > 0) chunk.set(old.subarray(0, this.pos));
    giveChunk(old);
    this.bytes = chunk;
  }

  uint8(value: number): void {
    this.reserve(1);
    this.bytes[this.pos++] = value;
  }

  int16(value: number): void {
    this.reserve(2);
    this.bytes[this.pos] = value >> 8;
    this.bytes[this.pos + 1] = value;
    this.pos += 2;
  }

  int32(value: number): void {
    this.reserve(4);
    putInt32(this.bytes, this.pos, value);
    this.pos += 4;
  }

  /**
   * Writes a string and its terminating zero. Zeros inside the string would end it early, so they
   * are left out.
   */
  cstring(text: string): void {
    this.text(text.includes("\0") ? text.replaceAll("\0", "") : text);
    this.uint8(0);
  }

  /** Writes UTF-8 text without a terminator. @returns the number of bytes written */
  text(text: string): number {
    this.reserve(text.length * 3);
    const written = this.bytes.write(text, this.pos, "utf8");
    this.pos += written;
    return written;
  }

  raw(bytes: Uint8Array): void {
    this.reserve(bytes.length);
    this.bytes.set(bytes, this.pos);
    this.pos += bytes.length;
  }

  /** Flushes when the running task ends, unless that happens before. */
  scheduleFlush(): void {
    if (this.#corked || this.#flushScheduled) return;
    this.#flushScheduled = true;
    queueMicrotask(this.#flushLater);
  }

  /** Hands the written output to the socket now. */
  flush(): void {
    const len = this.pos;
    if (len === 0) return;
    assert(this.#frameStart < 0, "flush() inside a message");
    const chunk = this.bytes;
    this.bytes = EMPTY;
    this.pos = 0;
    if (this.#closed || this.#socket.destroyed || !this.#socket.writable) {
      giveChunk(chunk);
      return;
    }
    this.#inFlight.push(chunk);
    this.#inFlightLengths.push(len);
    this.#inFlightBytes += len;
    this.#socket.write(chunk.subarray(0, len), this.#written);
  }

  /**
   * Resolves when the output has drained or the connection closes; at once when there is no
   * backpressure.
   */
  drained(): Promise<void> {
    if (this.#closed || !this.congested) return Promise.resolve();
    return new Promise((resolve) => this.#drainWaiters.push(resolve));
  }

  /** Closes the writer when the socket is gone: drops unwritten output and resolves all waiters. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    giveChunk(this.bytes);
    this.bytes = EMPTY;
    this.pos = 0;
    this.#frameStart = -1;
    this.#inFlight.length = 0;
    this.#inFlightBytes = 0;
    this.#releaseWaiters();
  }

  readonly #flushLater = (): void => {
    this.#flushScheduled = false;
    if (!this.#corked) this.flush();
  };

  /** Writes complete in order, so one callback serves all of them. */
  readonly #written = (error?: Error | null): void => {
    if (this.#closed) return;
    const chunk = this.#inFlight.shift();
    const len = this.#inFlightLengths.shift();
    assert(chunk !== undefined && len !== undefined, "write completed twice");
    this.#inFlightBytes -= len;
    // A failed write may still be referenced by the socket.
    if (!error) giveChunk(chunk);
    if (this.#congested && this.pendingBytes <= WRITE_LOW_WATER_BYTES) this.#releaseWaiters();
  };

  #releaseWaiters(): void {
    this.#congested = false;
    const waiters = this.#drainWaiters;
    this.#drainWaiters = [];
    for (const resolve of waiters) resolve();
    this.onDrain?.();
  }
}

function putInt32(bytes: Uint8Array, off: number, value: number): void {
  bytes[off] = value >> 24;
  bytes[off + 1] = value >> 16;
  bytes[off + 2] = value >> 8;
  bytes[off + 3] = value;
}
