/**
 * What the wire protocol adds to a request of 36 bytes and a reply of one page: a pagestream-like exchange over COPY BOTH
 * against a bare TCP server of the same runtime that answers every 36 bytes with 8 KiB. Server and client share a process
 * and its one thread in both cases.
 */
import { Buffer } from "node:buffer";
import { type AddressInfo, connect, createServer } from "node:net";
import { PgClient } from "../../src/pgwire/client.ts";
import type { CopyBoth } from "../../src/pgwire/copy_both.ts";
import { PgServer } from "../../src/pgwire/server.ts";
import {
  encodePagesHeader,
  PAGE_BYTES,
  pagesResponseBytes,
  REQUEST_BYTES,
} from "../../src/protocol/pagestream.ts";
import { compare, type Comparison, percentile, report } from "./harness.ts";

const DEPTHS = [1, 16];
const MAX_DEPTH = 16;
const REQUESTS_PER_ROUND = 20_000;

/** Sends requests `depth` at a time and measures each. */
interface Driver {
  send(): void;
  onReply: () => void;
  close(): Promise<void>;
}

/** @returns p50 of one round trip in microseconds */
function measure(driver: Driver, depth: number): Promise<number> {
  const started = new Float64Array(REQUESTS_PER_ROUND);
  const elapsed = new Float64Array(REQUESTS_PER_ROUND);
  let sent = 0;
  let received = 0;
  return new Promise((resolve) => {
    const send = (): void => {
      started[sent++] = performance.now();
      driver.send();
    };
    driver.onReply = () => {
      elapsed[received] = performance.now() - started[received];
      received++;
      if (sent < REQUESTS_PER_ROUND) send();
      else if (received === REQUESTS_PER_ROUND) resolve(percentile(elapsed.sort(), 0.5) * 1000);
    };
    for (let i = 0; i < depth; i++) send();
  });
}

/** Batches as well as can be done by hand: one write for all that one read has asked for, from filled buffers. */
async function startEcho(): Promise<Driver> {
  const pages = Buffer.alloc(PAGE_BYTES * MAX_DEPTH, 1);
  const requests = Buffer.alloc(REQUEST_BYTES * MAX_DEPTH, 2);
  const server = createServer((socket) => {
    socket.setNoDelay(true);
    let pending = 0;
    socket.on("data", (chunk) => {
      pending += chunk.length;
      const count = Math.floor(pending / REQUEST_BYTES);
      pending -= count * REQUEST_BYTES;
      if (count > 0) socket.write(pages.subarray(0, count * PAGE_BYTES));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const socket = connect({ host: "127.0.0.1", port: (server.address() as AddressInfo).port });
  await new Promise<void>((resolve) => socket.once("connect", () => resolve()));
  socket.setNoDelay(true);
  let unsent = 0;
  let scheduled = false;
  const flush = (): void => {
    scheduled = false;
    socket.write(requests.subarray(0, unsent * REQUEST_BYTES));
    unsent = 0;
  };
  const driver: Driver = {
    send() {
      unsent++;
      if (!scheduled) queueMicrotask(flush);
      scheduled = true;
    },
    onReply: () => {},
    async close() {
      socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
  let pending = 0;
  socket.on("data", (chunk) => {
    for (pending += chunk.length; pending >= PAGE_BYTES; pending -= PAGE_BYTES) driver.onReply();
  });
  return driver;
}

async function startCopyBoth(): Promise<Driver> {
  const page = Buffer.alloc(PAGE_BYTES, 1);
  const server = new PgServer({
    describe: () => null,
    query(session) {
      const copy = session.copyBoth();
      return copy.run({
        onData() {
          const at = copy.reserve(pagesResponseBytes(1));
          copy.buffer.set(page, encodePagesHeader(copy.buffer, at, 1, 1));
        },
      });
    },
  });
  const address = await server.listen({ host: "127.0.0.1", port: 0 });
  const client = await PgClient.connect(address);
  const copy: CopyBoth = await client.copyBoth("pages");
  const request = new Uint8Array(REQUEST_BYTES).fill(2);
  const driver: Driver = {
    send: () => void copy.send(request),
    onReply: () => {},
    async close() {
      copy.end();
      await running;
      await client.close();
      await server.close();
    },
  };
  const running = copy.run({ onData: () => driver.onReply() });
  return driver;
}

export async function run(): Promise<void> {
  const echo = await startEcho();
  const copyBoth = await startCopyBoth();
  const results: Comparison[] = [];
  for (const depth of DEPTHS) {
    results.push(
      await compare(
        `8 KiB reply, ${depth} in flight, p50`,
        "µs",
        () => measure(copyBoth, depth),
        () => measure(echo, depth),
      ),
    );
  }
  report("pgwire", results);
  await copyBoth.close();
  await echo.close();
}
