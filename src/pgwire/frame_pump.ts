/**
 * Passes messages from a socket to the code that handles them, and holds back a peer that is too
 * fast.
 */
import type { Socket } from "node:net";
import type { FrameReader } from "./frame_reader.ts";
import type { FrameWriter } from "./frame_writer.ts";
import { READ_AHEAD_MAX_BYTES, READ_AHEAD_MAX_CHUNKS } from "./limits.ts";

/** The owner of the messages: a connection at either end. */
export interface FrameHandler {
  /** Whether the next message can be handled now. Code that makes this true must run the pump. */
  mayRead(): boolean;
  /** Handles the reader's current message. Exceptions go to {@link fail}. */
  handle(): void;
  /**
   * Handles an error: the peer has broken the protocol, or its request can't continue. No more
   * messages are handled.
   */
  fail(error: unknown): void;
  /** Called when the reader may hold more or less data than before. */
  onHeld?(): void;
}

/**
 * Handles a connection's messages one by one as they arrive. Answers produced together leave in one
 * write. A peer that sends faster than its messages are handled fills its own buffers, not this
 * process's.
 */
export class FramePump {
  #socket: Socket;
  readonly #reader: FrameReader;
  readonly #writer: FrameWriter;
  readonly #handler: FrameHandler;
  #running = false;
  #stopped = false;

  constructor(socket: Socket, reader: FrameReader, writer: FrameWriter, handler: FrameHandler) {
    this.#socket = socket;
    this.#reader = reader;
    this.#writer = writer;
    this.#handler = handler;
    socket.on("data", this.#onData);
  }

  /** Reads no more from the present socket. */
  leaveSocket(): void {
    this.#socket.off("data", this.#onData);
  }

  /** Reads from `socket` from now on. It has taken over the present socket. */
  changeSocket(socket: Socket): void {
    this.#socket.off("data", this.#onData);
    this.#socket = socket;
    socket.on("data", this.#onData);
  }

  /** Handles as many of the buffered messages as possible now. */
  run(): void {
    if (this.#running || this.#stopped) return;
    this.#running = true;
    this.#writer.cork();
    try {
      while (!this.#stopped && this.#handler.mayRead() && this.#reader.next()) this.#handler.handle();
    } catch (error) {
      this.#handler.fail(error);
    }
    this.#running = false;
    this.#writer.uncork();
    if (this.#stopped) return;
    this.#controlFlow();
    this.#handler.onHeld?.();
  }

  /** Stops handling messages and drops those that still arrive. */
  stop(): void {
    this.#stopped = true;
  }

  readonly #onData = (chunk: Uint8Array): void => {
    if (this.#stopped) return;
    this.#reader.push(chunk);
    this.run();
  };

  #controlFlow(): void {
    const { bufferedBytes, bufferedChunks } = this.#reader;
    const much = bufferedBytes > READ_AHEAD_MAX_BYTES || bufferedChunks > READ_AHEAD_MAX_CHUNKS;
    const full = much && !this.#handler.mayRead();
    if (full && !this.#socket.isPaused()) this.#socket.pause();
    else if (!full && this.#socket.isPaused()) this.#socket.resume();
  }
}
