/** Copies bytes between a client and its Postgres, until either of them leaves. */
import type { Duplex } from "node:stream";

/** How many bytes have gone each way. */
export interface Traffic {
  toServer: number;
  toClient: number;
}

/**
 * Resolves when both ends are closed. A slow reader holds the other end back. Either may have left
 * already: a client need not wait until its Postgres is awake.
 */
export async function relay(client: Duplex, server: Duplex, traffic: Traffic): Promise<void> {
  await Promise.all([
    copy(client, server, (bytes) => traffic.toServer += bytes),
    copy(server, client, (bytes) => traffic.toClient += bytes),
  ]);
}

function copy(from: Duplex, to: Duplex, count: (bytes: number) => void): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      to.end();
      resolve();
    };
    from.on("data", (chunk: Buffer) => {
      count(chunk.length);
      if (to.destroyed) return;
      if (to.write(chunk) || from.isPaused()) return;
      from.pause();
      to.once("drain", () => from.resume());
    });
    const gone = (): void => {
      // Without a farewell, the other end has nothing to wait for.
      if (!to.writableEnded) to.end();
      from.destroy();
      setTimeout(() => to.destroy(), LINGER_MS).unref();
      resolve();
    };
    from.on("end", done);
    from.on("close", gone);
    from.on("error", () => from.destroy());
    to.on("close", () => from.destroy());
    // What has happened already is not said again.
    if (from.closed) gone();
    else if (from.readableEnded) done();
    else from.resume();
  });
}

/** How long an end may take to read what is left for it, when the other one has gone. */
const LINGER_MS = 5_000;
