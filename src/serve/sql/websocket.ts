/**
 * The server's side of a WebSocket (RFC 6455) as a stream of its binary frames' bytes. The `ws`
 * package would do it on Node; Bun replaces that by one of its own, which is not for sockets that
 * came by `upgrade`.
 */
import { createHash } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { Duplex } from "node:stream";

/** Section 1.3. */
const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const PAYLOAD_MAX_BYTES = 16 << 20;
const CONTROL_MAX_BYTES = 125;

const CONTINUATION = 0;
const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PING = 9;
const PONG = 10;

const CLOSE_NORMAL = 1000;
const CLOSE_PROTOCOL_ERROR = 1002;
const CLOSE_UNSUPPORTED = 1003;

/** Answers the handshake. @returns undefined when the request asks for something else */
export function acceptWebSocket(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): WebSocketStream | undefined {
  const { headers } = request;
  const key = headers["sec-websocket-key"];
  if (
    request.method !== "GET" || headers.upgrade?.toLowerCase() !== "websocket" ||
    headers["sec-websocket-version"] !== "13" || key === undefined || !/^[A-Za-z0-9+/]{22}==$/.test(key)
  ) return undefined;
  const accept = createHash("sha1").update(key + GUID).digest("base64");
  socket.write(
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
      `Sec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
  return new WebSocketStream(socket, head);
}

export class WebSocketStream extends Duplex {
  readonly #socket: Duplex;
  #pending: Buffer;
  #isMessageOpen = false;
  #isClosing = false;

  constructor(socket: Duplex, head: Buffer) {
    super({ allowHalfOpen: false });
    this.#socket = socket;
    this.#pending = head;
    socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    socket.on("end", () => this.push(null));
    socket.on("close", () => this.destroy());
    socket.on("error", () => this.destroy());
    if (head.length > 0) queueMicrotask(() => this.#receive(Buffer.alloc(0)));
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error) => void): void {
    if (this.#socket.destroyed || this.#isClosing) return done();
    if (this.#socket.write(frame(BINARY, chunk))) done();
    else this.#socket.once("drain", () => done());
  }

  override _final(done: () => void): void {
    this.#close(CLOSE_NORMAL);
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }

  #receive(chunk: Buffer): void {
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    for (;;) {
      const found = readFrame(this.#pending);
      if (found === undefined) return;
      if (found === "invalid") return this.#close(CLOSE_PROTOCOL_ERROR);
      this.#pending = this.#pending.subarray(found.size);
      if (!this.#handle(found)) return;
    }
  }

  /** @returns whether frames may follow */
  #handle({ opcode, isLast, payload }: Frame): boolean {
    switch (opcode) {
      case BINARY:
      case CONTINUATION:
        if ((opcode === CONTINUATION) !== this.#isMessageOpen) {
          this.#close(CLOSE_PROTOCOL_ERROR);
          return false;
        }
        this.#isMessageOpen = !isLast;
        if (payload.length > 0 && !this.push(payload)) this.#socket.pause();
        return true;
      case PING:
        this.#socket.write(frame(PONG, payload));
        return true;
      case PONG:
        return true;
      case CLOSE:
        this.#close(CLOSE_NORMAL);
        this.push(null);
        return false;
      default:
        this.#close(opcode === TEXT ? CLOSE_UNSUPPORTED : CLOSE_PROTOCOL_ERROR);
        return false;
    }
  }

  #close(code: number): void {
    if (this.#isClosing) return;
    this.#isClosing = true;
    const payload = Buffer.alloc(2);
    payload.writeUInt16BE(code);
    if (this.#socket.writable) this.#socket.end(frame(CLOSE, payload));
    if (code !== CLOSE_NORMAL) this.push(null);
  }
}

interface Frame {
  readonly opcode: number;
  readonly isLast: boolean;
  readonly payload: Buffer;
  /** With the header. */
  readonly size: number;
}

/** Section 5.2. @returns undefined when more has to arrive */
function readFrame(bytes: Buffer): Frame | "invalid" | undefined {
  if (bytes.length < 2) return undefined;
  const first = bytes[0]!;
  const second = bytes[1]!;
  const opcode = first & 0x0f;
  const isLast = (first & 0x80) !== 0;
  // No extension was agreed on, and a client has to mask what it sends.
  if ((first & 0x70) !== 0 || (second & 0x80) === 0) return "invalid";
  const short = second & 0x7f;
  if (opcode >= CLOSE && (short > CONTROL_MAX_BYTES || !isLast)) return "invalid";
  const lengthBytes = short === 126 ? 2 : short === 127 ? 8 : 0;
  const start = 2 + lengthBytes + 4;
  if (bytes.length < start) return undefined;
  const length = lengthBytes === 0
    ? short
    : lengthBytes === 2
    ? bytes.readUInt16BE(2)
    : Number(bytes.readBigUInt64BE(2));
  if (length > PAYLOAD_MAX_BYTES) return "invalid";
  if (bytes.length < start + length) return undefined;
  const mask = bytes.subarray(start - 4, start);
  const payload = Buffer.allocUnsafe(length);
  for (let i = 0; i < length; i++) payload[i] = bytes[start + i]! ^ mask[i & 3]!;
  return { opcode, isLast, payload, size: start + length };
}

function frame(opcode: number, payload: Uint8Array): Buffer {
  const { length } = payload;
  const head = Buffer.alloc(length < 126 ? 2 : length < 65536 ? 4 : 10);
  head[0] = 0x80 | opcode;
  if (length < 126) head[1] = length;
  else if (length < 65536) {
    head[1] = 126;
    head.writeUInt16BE(length, 2);
  } else {
    head[1] = 127;
    head.writeBigUInt64BE(BigInt(length), 2);
  }
  return Buffer.concat([head, payload]);
}
