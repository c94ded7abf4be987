/**
 * One end of a connection while somebody logs in: reads messages one at a time, with a limit on
 * their size and on the time. Afterwards the stream's bytes are relayed as they are.
 */
import type { Duplex } from "node:stream";
import { ZenithError } from "../../common/errors.ts";
import { ProtocolError } from "../../pgwire/sqlstate.ts";

/** A message: its type byte and its body. */
export interface Message {
  readonly type: number;
  readonly body: Buffer;
}

/** What is read ahead of the reader. Beyond this, the peer has to wait. */
const READ_AHEAD_MAX_BYTES = 64 * 1024;

export class Wire {
  stream: Duplex;
  #chunks: Buffer[] = [];
  #buffered = 0;
  #wake: (() => void) | undefined;
  #error: unknown;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(stream: Duplex) {
    this.stream = stream;
    this.#listen(stream);
  }

  /** The bytes that have arrived and were not read. */
  get bufferedBytes(): number {
    return this.#buffered;
  }

  /** Goes on with the stream that has taken over this one. */
  change(stream: Duplex): void {
    this.#leave();
    this.stream = stream;
    this.#listen(stream);
  }

  /**
   * Ends whatever is being read when this time is over.
   *
   * @param ms from now; undefined takes the limit away
   */
  setDeadline(ms: number | undefined, what = "the peer did not answer in time"): void {
    clearTimeout(this.#timer);
    if (ms === undefined) return;
    this.#timer = setTimeout(() => this.fail(new ZenithError("timeout", what)), ms);
  }

  /** Makes the present and all later reads fail. */
  fail(error: unknown): void {
    this.#error ??= error;
    this.#wake?.();
  }

  /** @throws what has ended the connection */
  async read(count: number): Promise<Buffer> {
    await this.#until(count);
    return this.#take(count);
  }

  /** Looks at the next byte. */
  async peek(): Promise<number> {
    await this.#until(1);
    return this.#chunks[0]![0]!;
  }

  /**
   * Reads a message with a type byte.
   *
   * @throws {ProtocolError} when its body is larger than `maxBytes`
   */
  async message(maxBytes: number): Promise<Message> {
    const head = await this.read(5);
    const size = head.readInt32BE(1) - 4;
    if (size < 0 || size > maxBytes) {
      throw new ProtocolError(`message "${String.fromCharCode(head[0]!)}" of ${size} bytes`);
    }
    return { type: head[0]!, body: await this.read(size) };
  }

  write(bytes: Uint8Array): void {
    if (this.stream.writable) this.stream.write(bytes);
  }

  /** Takes no more from the stream. @returns what has arrived and was not read */
  release(): Buffer {
    this.#leave();
    const rest = Buffer.concat(this.#chunks);
    this.#chunks = [];
    this.#buffered = 0;
    return rest;
  }

  /** Says the last word and closes. */
  end(bytes?: Uint8Array): void {
    this.setDeadline(undefined);
    if (bytes !== undefined) this.write(bytes);
    this.stream.end();
    // A peer that does not close its side is not waited for.
    const timer = setTimeout(() => this.stream.destroy(), LINGER_MS);
    this.stream.once("close", () => clearTimeout(timer));
    this.#leave();
    this.stream.on("data", () => {});
    this.stream.on("error", () => {});
  }

  destroy(): void {
    this.setDeadline(undefined);
    this.stream.destroy();
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#chunks.push(chunk);
    this.#buffered += chunk.length;
    if (this.#buffered > READ_AHEAD_MAX_BYTES) this.stream.pause();
    this.#wake?.();
  };
  readonly #onError = (error: Error): void => {
    this.fail(new ZenithError("unavailable", `the connection broke: ${error.message}`, { cause: error }));
  };
  readonly #onEnd = (): void => {
    this.fail(new ZenithError("unavailable", "the peer closed the connection"));
  };

  #listen(stream: Duplex): void {
    stream.on("data", this.#onData);
    stream.on("error", this.#onError);
    stream.on("end", this.#onEnd);
    stream.on("close", this.#onEnd);
  }

  #leave(): void {
    const { stream } = this;
    stream.pause();
    stream.off("data", this.#onData);
    stream.off("end", this.#onEnd);
    stream.off("close", this.#onEnd);
    // The listener for errors stays: without one, an error would end the process.
  }

  async #until(count: number): Promise<void> {
    while (this.#buffered < count) {
      if (this.#error !== undefined) throw this.#error;
      if (this.stream.isPaused()) this.stream.resume();
      await new Promise<void>((resolve) => this.#wake = resolve);
      this.#wake = undefined;
    }
  }

  #take(count: number): Buffer {
    const first = this.#chunks[0];
    this.#buffered -= count;
    if (first !== undefined && first.length > count) {
      this.#chunks[0] = first.subarray(count);
      return first.subarray(0, count);
    }
    const all = Buffer.concat(this.#chunks);
    this.#chunks = all.length > count ? [all.subarray(count)] : [];
    return all.subarray(0, count);
  }
}

/** How long a peer may take to read the last word. */
const LINGER_MS = 1_000;
