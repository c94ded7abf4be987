import assert from "node:assert/strict";
import type { IncomingMessage } from "node:http";
import { Duplex } from "node:stream";
import { describe, test } from "node:test";
import { acceptWebSocket, type WebSocketStream } from "../../../src/serve/sql/websocket.ts";

/** The client's end of a connection: what it sends comes from `say`, what it hears is kept. */
class FakeSocket extends Duplex {
  readonly heard: Buffer[] = [];
  override _read(): void {}
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.heard.push(chunk);
    done();
  }
  say(bytes: Uint8Array): void {
    this.push(bytes);
  }
}

function open(): { socket: FakeSocket; stream: WebSocketStream; got: Buffer[] } {
  const socket = new FakeSocket();
  const headers = {
    upgrade: "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
  };
  const stream = acceptWebSocket(
    { method: "GET", headers } as unknown as IncomingMessage,
    socket,
    Buffer.alloc(0),
  )!;
  const got: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => got.push(chunk));
  stream.on("error", () => {});
  return { socket, stream, got };
}

/** A client's frame. */
function frame(
  first: number,
  payload: string,
  { masked = true, length }: { masked?: boolean; length?: Buffer } = {},
): Buffer {
  const mask = Buffer.from([1, 2, 3, 4]);
  const bytes = Buffer.from(payload).map((byte, i) => masked ? byte ^ mask[i & 3]! : byte);
  const size = length ?? Buffer.from([bytes.length]);
  size[0]! |= masked ? 0x80 : 0;
  return Buffer.concat([Buffer.from([first]), size, masked ? mask : Buffer.alloc(0), bytes]);
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe("a WebSocket", () => {
  test("answers the handshake as RFC 6455 shows it", () => {
    const { socket } = open();
    assert.match(
      Buffer.concat(socket.heard).toString(),
      /Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=\r\n/,
    );
  });

  test("is a stream of its binary frames' bytes, however they are cut", async () => {
    const { socket, got } = open();
    const bytes = Buffer.concat([
      frame(0x82, "ab"),
      frame(0x02, "cd"),
      frame(0x80, "ef"),
      frame(0x89, "ping"),
      frame(0x82, "g"),
    ]);
    for (const byte of bytes) {
      socket.say(Buffer.from([byte]));
      await turn();
    }
    assert.equal(Buffer.concat(got).toString(), "abcdefg");
    const pong = socket.heard.at(-1)!;
    assert.deepEqual([pong[0], pong.toString("utf8", 2)], [0x8a, "ping"]);
  });

  test("writes frames of every length", async () => {
    const { socket, stream } = open();
    for (const size of [1, 125, 126, 65535, 65536]) {
      stream.write(Buffer.alloc(size));
      await turn();
      const last = socket.heard.at(-1)!;
      const head = size < 126 ? 2 : size < 65536 ? 4 : 10;
      assert.equal(last.length, head + size);
    }
  });

  test("ends at what is no frame, and at what is too large", async () => {
    const huge = Buffer.alloc(9);
    huge[0] = 127;
    huge.writeUInt32BE(1, 1);
    for (
      const bytes of [
        frame(0x82, "a", { masked: false }),
        frame(0xc2, "a"),
        frame(0x81, "text"),
        frame(0x80, "continues nothing"),
        frame(0x83, "unknown"),
        frame(0x82, "", { length: huge }),
        frame(0x09, "a ping in pieces"),
      ]
    ) {
      const { socket, got } = open();
      socket.say(bytes);
      await turn();
      await turn();
      assert.equal(socket.heard.at(-1)![0], 0x88, bytes.toString("hex"));
      assert.deepEqual(got, []);
    }
  });
});
