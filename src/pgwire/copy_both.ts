/**
 * A connection in COPY BOTH mode: CopyData messages in both directions at once. Server and client
 * use the same class.
 */
import type { Buffer } from "node:buffer";
import { assert } from "../common/assert.ts";
import type { FrameWriter } from "./frame_writer.ts";
import { COPY_DONE } from "./message_types.ts";

/**
 * The receiver. Synchronous on purpose: no promise per message. Anything thrown ends the stream
 * with that error.
 */
export interface CopyBothHandler {
  /**
   * One message: `bytes[off, off + len)`, which is overwritten after the call returns. Copy
   * anything you keep.
   */
  onData(bytes: Uint8Array, off: number, len: number): void;
  /** The peer has sent its last message. Without this callback our direction is ended too. */
  onEnd?(): void;
}

/** The stream's view of its connection. */
export interface CopyBothHost {
  readonly writer: FrameWriter;
  /**
   * Whether the last CopyDone completes the stream, or the connection says when by
   * {@link CopyBoth.close}.
   */
  readonly copyDoneCompletes: boolean;
  /** Deliver the messages read so far: there is a receiver again. */
  resumeReading(): void;
}

export class CopyBoth {
  readonly #host: CopyBothHost;
  readonly #writer: FrameWriter;
  #handler: CopyBothHandler | undefined;
  #paused = false;
  #sentDone = false;
  #receivedDone = false;
  #closed = false;
  #error: unknown;
  #endTag: string | undefined;
  #settle: ((error?: unknown) => void) | undefined;

  constructor(host: CopyBothHost) {
    this.#host = host;
    this.#writer = host.writer;
  }

  /**
   * Receives until both directions have ended or the connection is gone. At a server both resolve,
   * and {@link finished} tells them apart; at a client the loss of the connection is an error.
   *
   * @throws what the peer reported or what broke the connection, and anything that `handler` throws
   */
  run(handler: CopyBothHandler): Promise<void> {
    assert(this.#handler === undefined, "CopyBoth.run() called twice");
    this.#handler = handler;
    const done = new Promise<void>((resolve, reject) => {
      this.#settle = (error) => error === undefined ? resolve() : reject(error);
    });
    if (this.#closed) this.#settle!(this.#error);
    else this.#host.resumeReading();
    return done;
  }

  /** Whether the stream is over. Later messages are dropped. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Whether messages can still be sent. */
  get sending(): boolean {
    return !this.#sentDone && !this.#closed;
  }

  /** The tag given to {@link end}. */
  get endTag(): string | undefined {
    return this.#endTag;
  }

  /** Both directions have ended. */
  get finished(): boolean {
    return this.#sentDone && this.#receivedDone;
  }

  /** Whether the connection may deliver a message now. */
  get receiving(): boolean {
    return this.#handler !== undefined && !this.#paused && !this.#closed;
  }

  /** The peer's last message has come. */
  get ended(): boolean {
    return this.#receivedDone;
  }

  /**
   * Sends one message, copied from `bytes[off, off + len)`. Messages of one task leave in one
   * write.
   *
   * @returns false when the peer takes them too slowly: wait for {@link drained} before sending
   *   much more
   */
  send(bytes: Uint8Array, off = 0, len = bytes.length): boolean {
    if (!this.#maySend()) return true;
    const at = this.#writer.copyData(len);
    const target = this.#writer.bytes;
    if (off === 0 && len === bytes.length) target.set(bytes, at);
    else target.set(bytes.subarray(off, off + len), at);
    this.#writer.scheduleFlush();
    return !this.#writer.congested;
  }

  /**
   * Like {@link send}, without a copy: makes room for a message of exactly `len` bytes. The caller
   * fills `buffer[offset, offset + len)` at the returned offset before it calls anything else here,
   * then may go on.
   *
   * @example
   * const at = copy.reserve(RESPONSE_BYTES);
   * encodeResponse(copy.buffer, at, response);
   */
  reserve(len: number): number {
    this.#maySend();
    const at = this.#writer.copyData(len);
    this.#writer.scheduleFlush();
    return at;
  }

  /** The output buffer that {@link reserve} gave out room in; another one after the next call. */
  get buffer(): Buffer {
    return this.#writer.bytes;
  }

  /** Whether {@link send} would return false. */
  get congested(): boolean {
    return this.#writer.congested;
  }

  /** Hands everything to the socket now; otherwise it happens when the running task ends. */
  flush(): void {
    this.#writer.flush();
  }

  /** Resolves when output has drained, and when the connection closes. */
  drained(): Promise<void> {
    return this.#writer.drained();
  }

  /** Stops delivery. The peer's messages stay in the socket, which slows the peer down. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#host.resumeReading();
  }

  /**
   * Sends the end of our direction; the peer's messages are still received until it ends its own.
   *
   * @param tag what a server's CommandComplete says when both have ended
   */
  end(tag = "COPY"): void {
    if (this.#sentDone || this.#closed) return;
    this.#sentDone = true;
    this.#endTag = tag;
    this.#writer.empty(COPY_DONE);
    this.#finishIfDone();
  }

  /** @internal One CopyData message for the handler. */
  deliver(bytes: Uint8Array, off: number, len: number): void {
    this.#handler!.onData(bytes, off, len);
  }

  /** @internal CopyDone has come. */
  deliverEnd(): void {
    this.#receivedDone = true;
    if (this.#handler!.onEnd === undefined) this.end();
    else this.#handler!.onEnd();
    this.#finishIfDone();
  }

  /** @internal The connection is gone, or the stream has failed with `error`. */
  close(error?: unknown): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#error = error;
    this.#settle?.(error);
  }

  #maySend(): boolean {
    assert(!this.#sentDone, "CopyBoth: a message after end()");
    return !this.#closed;
  }

  #finishIfDone(): void {
    if (this.finished && this.#host.copyDoneCompletes) this.#settle?.();
  }
}
