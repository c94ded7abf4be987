/** Drives requests that are answered in order, some at a time, and times each. */
import { Buffer } from "node:buffer";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { PAGE_BYTES, REQUEST_BYTES } from "../../../src/protocol/pagestream.ts";
import { percentile } from "../harness.ts";

/** One end of a connection: sends request number `i`; its user sets what a reply does. */
export interface Driver {
  send(i: number): void;
  onReply: () => void;
}

export interface RoundTrips {
  readonly p50Us: number;
  readonly p99Us: number;
  readonly perSecond: number;
}

/** Sends `count` requests, `depth` in flight. */
export function roundTrips(driver: Driver, count: number, depth: number): Promise<RoundTrips> {
  const started = new Float64Array(count);
  const elapsed = new Float64Array(count);
  let sent = 0;
  let received = 0;
  const begin = performance.now();
  return new Promise((resolve) => {
    const send = (): void => {
      started[sent] = performance.now();
      driver.send(sent++);
    };
    driver.onReply = () => {
      elapsed[received] = performance.now() - started[received];
      received++;
      if (sent < count) send();
      else if (received === count) {
        const seconds = (performance.now() - begin) / 1000;
        elapsed.sort();
        resolve({
          p50Us: percentile(elapsed, 0.5) * 1000,
          p99Us: percentile(elapsed, 0.99) * 1000,
          perSecond: count / seconds,
        });
      }
    };
    for (let i = 0; i < depth && i < count; i++) send();
  });
}

/** A connection to echo_server.ts. */
export class Echo implements Driver, Disposable {
  onReply: () => void = () => {};
  readonly #server: ChildProcess;
  readonly #socket: Socket;
  readonly #requests = Buffer.alloc(REQUEST_BYTES * 64, 2);
  #unsent = 0;

  static async start(): Promise<Echo> {
    const server = spawn(process.execPath, [join(import.meta.dirname, "echo_server.ts")], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [line] = await once(server.stdout, "data") as [Buffer];
    const socket = connect({ host: "127.0.0.1", port: Number(line.toString()) });
    await once(socket, "connect");
    return new Echo(server, socket);
  }

  private constructor(server: ChildProcess, socket: Socket) {
    this.#server = server;
    this.#socket = socket;
    socket.setNoDelay(true);
    let pending = 0;
    socket.on("data", (chunk) => {
      for (pending += chunk.length; pending >= PAGE_BYTES; pending -= PAGE_BYTES) this.onReply();
    });
  }

  send(): void {
    if (this.#unsent++ === 0) {
      queueMicrotask(() => {
        this.#socket.write(this.#requests.subarray(0, this.#unsent * REQUEST_BYTES));
        this.#unsent = 0;
      });
    }
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
    this.#server.kill("SIGKILL");
  }
}
