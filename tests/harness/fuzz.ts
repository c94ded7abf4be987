/** Mutates recorded conversations of clients, and plays them to a server. */
import { once } from "node:events";
import { connect, createServer, type NetConnectOpts } from "node:net";
import type { AddressInfo } from "node:net";
import type { HostPort } from "../../src/common/host_port.ts";
import type { Random } from "./random.ts";

/** What one client has sent, a piece for each time that it wrote. */
export type Conversation = readonly Uint8Array[];

/** How long a piece waits for the answer to the one before. */
const PAUSE_MS = 15;

/** How long a server may take to answer the last piece; it need not. */
const LINGER_MS = 30;

/** What is kept of an answer. */
const ANSWER_MAX_BYTES = 1 << 20;

/** Records what a client sends to `server`. @param talk gets the address to connect to */
export async function record(
  server: HostPort,
  talk: (address: HostPort) => Promise<unknown>,
): Promise<Conversation> {
  const pieces: Uint8Array[] = [];
  const proxy = createServer((client) => {
    const upstream = connect(server);
    client.on("data", (chunk: Uint8Array) => {
      pieces.push(new Uint8Array(chunk));
      upstream.write(chunk);
    });
    upstream.pipe(client);
    for (const socket of [client, upstream]) {
      socket.on("error", () => {});
      socket.on("close", () => {
        client.destroy();
        upstream.destroy();
      });
    }
  });
  proxy.listen({ host: "127.0.0.1", port: 0 });
  await once(proxy, "listening");
  await talk({ host: "127.0.0.1", port: (proxy.address() as AddressInfo).port }).catch(() => {});
  proxy.close();
  return pieces;
}

/** Numbers on whose either side something changes. */
const EDGES = [0, 1, 4, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

/** Changes a piece in one to four places. @param words pieces of text that mean something to the server */
export function mutate(random: Random, piece: Uint8Array, words: readonly Uint8Array[]): Uint8Array {
  let bytes = piece.slice();
  for (let n = 1 + random.int(4); n > 0; n--) {
    const at = random.int(bytes.length + 1);
    const length = Math.min(bytes.length - at, 1 + random.int(16));
    switch (random.int(7)) {
      case 0:
        if (at < bytes.length) bytes[at]! ^= 1 << random.int(8);
        break;
      case 1:
        if (at + 4 <= bytes.length) {
          new DataView(bytes.buffer).setUint32(at, EDGES[random.int(EDGES.length)]!, random.oneIn(2));
        }
        break;
      case 2:
        bytes = join(bytes.subarray(0, at), bytes.subarray(at + length));
        break;
      case 3:
        bytes = join(bytes.subarray(0, at), random.bytes(1 + random.int(32)), bytes.subarray(at));
        break;
      case 4:
        bytes = join(bytes.subarray(0, at + length), bytes.subarray(at));
        break;
      case 5: {
        const word = words[random.int(words.length)]!;
        bytes = join(bytes.subarray(0, at), word, bytes.subarray(Math.min(bytes.length, at + word.length)));
        break;
      }
      case 6:
        bytes = bytes.slice(0, at);
    }
  }
  return bytes;
}

function join(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.concat(parts));
}

/**
 * Plays a conversation from which something is changed: pieces are mutated, left out, doubled, or in another order.
 *
 * @param from the number of the first piece that may be changed
 * @returns what the server answered
 */
export async function play(
  random: Random,
  where: NetConnectOpts,
  conversation: Conversation,
  from: number,
  words: readonly Uint8Array[],
): Promise<Uint8Array> {
  const pieces = [...conversation];
  const changes = 1 + random.int(2);
  for (let i = 0; i < changes && pieces.length > from; i++) {
    const at = from + random.int(pieces.length - from);
    const piece = pieces[at]!;
    switch (random.int(8)) {
      case 0:
        pieces.splice(at, 1);
        break;
      case 1:
        pieces.splice(at, 0, piece);
        break;
      case 2:
        pieces.splice(from + random.int(pieces.length - from), 0, piece);
        break;
      default:
        pieces[at] = mutate(random, piece, words);
    }
  }
  const socket = connect(where);
  const answer: Uint8Array[] = [];
  let length = 0;
  let isClosed = false;
  socket.on("data", (chunk: Uint8Array) => {
    if (length < ANSWER_MAX_BYTES) answer.push(new Uint8Array(chunk));
    length += chunk.length;
  });
  socket.on("error", () => {});
  socket.on("close", () => isClosed = true);
  for (const piece of pieces) {
    if (isClosed) break;
    const before = length;
    socket.write(piece);
    for (let waited = 0; waited < PAUSE_MS && length === before && !isClosed; waited += 3) await pause(3);
  }
  for (let waited = 0; waited < LINGER_MS && !isClosed; waited += 5) await pause(5);
  socket.destroy();
  return Buffer.concat(answer);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
