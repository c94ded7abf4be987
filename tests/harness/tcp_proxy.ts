/** A TCP proxy that cuts, delays and swallows what goes through it. */
import { connect, createServer, type Server, type Socket } from "node:net";
import type { HostPort } from "../../src/common/host_port.ts";

interface Pair {
  readonly client: Socket;
  readonly server: Socket;
}

/** Passes connections on to `target`. `await using` it. */
export class TcpProxy implements AsyncDisposable {
  readonly #target: HostPort;
  readonly #listener: Server;
  readonly #pairs = new Set<Pair>();
  #port = 0;
  #delayMs = 0;
  #silent = false;

  private constructor(target: HostPort) {
    this.#target = target;
    this.#listener = createServer((client) => this.#accept(client));
  }

  static async start(target: HostPort): Promise<TcpProxy> {
    const proxy = new TcpProxy(target);
    await new Promise<void>((resolve, reject) => {
      proxy.#listener.on("error", reject);
      proxy.#listener.listen({ host: "127.0.0.1", port: 0 }, () => resolve());
    });
    const address = proxy.#listener.address();
    if (address === null || typeof address === "string") throw new Error("the proxy has no port");
    proxy.#port = address.port;
    return proxy;
  }

  get address(): HostPort {
    return { host: "127.0.0.1", port: this.#port };
  }

  get connections(): number {
    return this.#pairs.size;
  }

  /** Resets all connections, with whatever is on its way in them. New ones are taken. */
  cut(): void {
    for (const { client, server } of this.#pairs) {
      client.resetAndDestroy();
      server.resetAndDestroy();
    }
  }

  /** From now on everything arrives so much later, in both directions. */
  delay(ms: number): void {
    this.#delayMs = ms;
  }

  /** While `silent`, connections stand and nothing arrives; what was sent meanwhile is lost, and with it they have to go. */
  swallow(silent: boolean): void {
    this.#silent = silent;
    if (!silent) this.cut();
  }

  #accept(client: Socket): void {
    const server = connect({ ...this.#target, noDelay: true });
    client.setNoDelay(true);
    const pair = { client, server };
    this.#pairs.add(pair);
    this.#forward(client, server);
    this.#forward(server, client);
    const end = (): void => {
      client.destroy();
      server.destroy();
      this.#pairs.delete(pair);
    };
    for (const socket of [client, server]) socket.on("error", end).on("close", end);
  }

  #forward(from: Socket, to: Socket): void {
    from.on("data", (chunk) => {
      if (this.#silent) return;
      // Timers of one length fire in the order they were set.
      if (this.#delayMs === 0) to.write(chunk);
      else setTimeout(() => to.destroyed || to.write(chunk), this.#delayMs);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => this.#listener.close(() => resolve()));
  }
}
