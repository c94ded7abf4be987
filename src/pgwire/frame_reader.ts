/**
 * Splits the bytes of a socket into protocol messages. The reader is pull style: bytes go in
 * through {@link FrameReader.push} as they arrive, and messages come out of
 * {@link FrameReader.next} when the consumer is ready for them.
 */
import { STARTUP_PACKET_MAX_BYTES } from "./limits.ts";
import type { FrameLimits } from "./message_types.ts";
import { ProtocolError, SQLSTATE_CONFIGURATION_LIMIT_EXCEEDED } from "./sqlstate.ts";

const EMPTY = new Uint8Array(0);

/** The length word counts itself. */
const LENGTH_BYTES = 4;
/** Type byte and length word. */
const HEADER_BYTES = 5;
/** A startup packet has at least a version. */
const STARTUP_MIN_BYTES = LENGTH_BYTES + 4;

const CARRY_INITIAL_BYTES = 4096;
/** A larger carry buffer is released after its message, unless the reader's owner wants more. */
const CARRY_KEEP_BYTES = 256 * 1024;

export class FrameReader {
  /** The current message, set by {@link next}: its type byte and the place of its body. */
  type = 0;
  bytes: Uint8Array = EMPTY;
  off = 0;
  len = 0;

  /** Bytes that were pushed and not yet returned as messages. */
  bufferedBytes = 0;

  /** In how many chunks those bytes arrived. */
  get bufferedChunks(): number {
    return this.#queue.length;
  }

  /** The largest body of each message type that the peer may send. */
  limits: FrameLimits;

  /** 0 while startup packets are expected. They have no type byte. */
  #typeBytes = 1;
  #chunk: Uint8Array = EMPTY;
  #pos = 0;
  #queue: Uint8Array[] = [];
  /** Holds a message that is not whole in any single chunk. */
  #carry: Uint8Array = EMPTY;
  #carryLen = 0;
  #frameInCarry = false;
  readonly #carryKeepBytes: number;

  constructor(limits: FrameLimits, carryKeepBytes = CARRY_KEEP_BYTES) {
    this.limits = limits;
    this.#carryKeepBytes = carryKeepBytes;
  }

  /** Whether the next message is a startup packet: a length and a body without a type byte. */
  set expectStartup(value: boolean) {
    this.#typeBytes = value ? 0 : 1;
  }

  /** Takes ownership of `chunk`, which must not change until its messages have been read. */
  push(chunk: Uint8Array): void {
    this.bufferedBytes += chunk.length;
    if (this.#pos === this.#chunk.length && this.#queue.length === 0) {
      this.#chunk = chunk;
      this.#pos = 0;
    } else {
      this.#queue.push(chunk);
    }
  }

  /**
   * Moves on to the next message. Its body is at `bytes[off, off + len)` and stays valid until the
   * next call.
   *
   * @returns false when the message has not arrived completely
   * @throws {ProtocolError} on an unknown type or a length outside the type's limits, before
   *   anything of that size is allocated
   */
  next(): boolean {
    if (this.#carryLen === 0 && this.#typeBytes === 1) {
      const chunk = this.#chunk;
      const at = this.#pos;
      const available = chunk.length - at;
      if (available >= HEADER_BYTES) {
        const type = chunk[at];
        const length = int32(chunk, at + 1);
        this.#check(type, length);
        if (available > length) {
          this.type = type;
          this.bytes = chunk;
          this.off = at + HEADER_BYTES;
          this.len = length - LENGTH_BYTES;
          this.#pos = at + 1 + length;
          this.bufferedBytes -= 1 + length;
          this.#frameInCarry = false;
          return true;
        }
      }
    }
    return this.#nextAcrossChunks();
  }

  /** Returns the current message's body as bytes that stay valid. */
  detach(): Uint8Array {
    const body = this.bytes.subarray(this.off, this.off + this.len);
    if (this.#frameInCarry) this.#carry = EMPTY;
    return body;
  }

  /** Drops what was pushed and not yet returned. The current message stays valid. */
  clear(): void {
    this.#chunk = EMPTY;
    this.#pos = 0;
    this.#queue = [];
    this.#carry = EMPTY;
    this.#carryLen = 0;
    this.bufferedBytes = 0;
  }

  #nextAcrossChunks(): boolean {
    const headerBytes = this.#typeBytes + LENGTH_BYTES;
    for (;;) {
      if (this.#pos === this.#chunk.length) {
        const chunk = this.#queue.shift();
        if (chunk === undefined) {
          this.#chunk = EMPTY;
          this.#pos = 0;
          return false;
        }
        this.#chunk = chunk;
        this.#pos = 0;
        if (this.#carryLen === 0 && this.#typeBytes === 1) return this.next();
      }
      if (this.#carryLen < headerBytes) {
        this.#fillCarry(headerBytes);
        if (this.#carryLen < headerBytes) continue;
        const length = int32(this.#carry, this.#typeBytes);
        if (this.#typeBytes === 0) this.#checkStartup(length);
        else this.#check(this.#carry[0], length);
      }
      const total = this.#typeBytes + int32(this.#carry, this.#typeBytes);
      this.#fillCarry(total);
      if (this.#carryLen < total) continue;
      this.type = this.#typeBytes === 0 ? 0 : this.#carry[0];
      this.bytes = this.#carry;
      this.off = headerBytes;
      this.len = total - headerBytes;
      this.bufferedBytes -= total;
      this.#frameInCarry = true;
      this.#carryLen = 0;
      if (this.#carry.length > this.#carryKeepBytes) this.#carry = EMPTY;
      return true;
    }
  }

  /**
   * Copies from the current chunk until the carry buffer holds `target` bytes or the chunk is used
   * up.
   */
  #fillCarry(target: number): void {
    const count = Math.min(target - this.#carryLen, this.#chunk.length - this.#pos);
    const needed = this.#carryLen + count;
    if (this.#carry.length < needed) {
      // The buffer grows with what has arrived, not with what the header promises. A header alone
      // can't claim memory.
      const grown = new Uint8Array(
        Math.max(CARRY_INITIAL_BYTES, needed, Math.min(target, this.#carry.length * 2)),
      );
      grown.set(this.#carry.subarray(0, this.#carryLen));
      this.#carry = grown;
    }
    this.#carry.set(this.#chunk.subarray(this.#pos, this.#pos + count), this.#carryLen);
    this.#carryLen = needed;
    this.#pos += count;
  }

  #check(type: number, length: number): void {
    const limit = this.limits[type];
    if (limit < 0) {
      throw new ProtocolError(`invalid message type ${type} (${JSON.stringify(String.fromCharCode(type))})`);
    }
    if (length < LENGTH_BYTES) {
      throw new ProtocolError(
        `invalid length ${length} of message "${
          String.fromCharCode(type)
        }": expected at least ${LENGTH_BYTES}`,
      );
    }
    if (length - LENGTH_BYTES > limit) {
      throw new ProtocolError(
        `message "${String.fromCharCode(type)}" is too long: ${
          length - LENGTH_BYTES
        } bytes, the limit is ${limit}`,
        SQLSTATE_CONFIGURATION_LIMIT_EXCEEDED,
      );
    }
  }

  #checkStartup(length: number): void {
    if (length < STARTUP_MIN_BYTES || length > STARTUP_PACKET_MAX_BYTES) {
      throw new ProtocolError(
        `invalid length ${length} of startup packet: expected ${STARTUP_MIN_BYTES} to ${STARTUP_PACKET_MAX_BYTES}`,
      );
    }
  }
}

function int32(bytes: Uint8Array, off: number): number {
  return (bytes[off] << 24) | (bytes[off + 1] << 16) | (bytes[off + 2] << 8) | bytes[off + 3];
}
