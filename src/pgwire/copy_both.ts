/**
 * Implements a connection in COPY BOTH mode: CopyData messages in both directions at once. Server
 * and client use the same class.
 */
import type { Buffer } from "node:buffer";
import { assert } from "../common/assert.ts";
import type { FrameWriter } from "./frame_writer.ts";
import { COPY_DONE } from "./message_types.ts";

/**
 * Receives a stream's messages. It is synchronous on purpose: there is no promise per message.
 * Anything that it throws ends the stream with that error.
 */
export interface CopyBothHandler {
  /**
   * Handles one message: `bytes[off, off + len)`. The bytes are overwritten after the call returns,
   * so copy anything you keep.
   */
  onData(bytes: Uint8Array, off: number, len: number): void;
  /** The peer has sent its last message. Without this callback, this end's direction ends too. */
  onEnd?(): void;
}

/** What the stream needs from its connection. */
export interface CopyBothHost {
  readonly writer: FrameWriter;
  /**
   * True when the last CopyDone completes the stream. False when the connection says when, by
   * {@link CopyBoth.close}.
   */
  readonly copyDoneCompletes: boolean;
  /** Delivers the messages read so far, because there is a receiver again. */
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
   * Receives until both directions have ended or the connection is closed. At a server, both cases
   * resolve, and {@link finished} tells them apart. At a client, the loss of the connection is an
   * error.
   *
   * @throws what the peer reported, what broke the connection, or anything that `handler` throws
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

  /** Whether both directions have ended. */
  get finished(): boolean {
    return this.#sentDone && this.#receivedDone;
  }

  /** Whether the connection may deliver a message now. */
  get receiving(): boolean {
    return this.#handler !== undefined && !this.#paused && !this.#closed;
  }

  /** Whether the peer's last message has arrived. */
  get ended(): boolean {
    return this.#receivedDone;
  }

  /**
   * Sends one message, copied from `bytes[off, off + len)`. Messages sent in one task leave in one
   * write.
   *
   * @returns false when the peer reads too slowly: wait for {@link drained} before sending much
   *   more
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
   * Like {@link send}, but without a copy: makes room for a message of exactly `len` bytes. The
   * caller fills `buffer[offset, offset + len)` at the returned offset before it calls anything
   * else here.
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

  /** The output buffer in which {@link reserve} made room. The next call may change it. */
  get buffer(): Buffer {
    return this.#writer.bytes;
  }

  /** Whether {@link send} would return false. */
  get congested(): boolean {
    return this.#writer.congested;
  }

  /** Hands all output to the socket now. Otherwise this happens when the running task ends. */
  flush(): void {
    this.#writer.flush();
  }

  /** Resolves when the output has drained or the connection closes. */
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
   * Ends this end's direction. The peer's messages are still received until the peer ends its own.
   *
   * @param tag the tag of a server's CommandComplete once both directions have ended
   */
  end(tag = "COPY"): void {
    if (this.#sentDone || this.#closed) return;
    this.#sentDone = true;
    this.#endTag = tag;
    this.#writer.empty(COPY_DONE);
    this.#finishIfDone();
  }

  /** @internal Passes one CopyData message to the handler. */
  deliver(bytes: Uint8Array, off: number, len: number): void {
    this.#handler!.onData(bytes, off, len);
  }

  /** @internal Handles the peer's CopyDone. */
  deliverEnd(): void {
    this.#receivedDone = true;
    if (this.#handler!.onEnd === undefined) this.end();
    else this.#handler!.onEnd();
    this.#finishIfDone();
  }

  /** @internal Ends the stream: the connection is closed, or the stream has failed with `error`. */
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
