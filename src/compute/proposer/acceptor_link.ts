/** The proposer's connection to one safekeeper. */
import { errorMessage } from "../../common/errors.ts";
import { formatHostPort } from "../../common/host_port.ts";
import type { Logger } from "../../process/log.ts";
import { sleep } from "../../common/sleep.ts";
import { decodeAcceptorMessage } from "../../consensus/message_codec.ts";
import type { AcceptorMessage } from "../../consensus/messages.ts";
import type { PgClient } from "../../pgwire/client.ts";
import type { CopyBoth } from "../../pgwire/copy_both.ts";
import { WAL_PROPOSER_NAME } from "./wal_source.ts";
import { connectServer, type ServerAddress } from "../../protocol/connect.ts";
import { SAFEKEEPER } from "../../protocol/management.ts";
import { formatCommand } from "../../protocol/operation.ts";

const CONNECT_TIMEOUT_MS = 5_000;
const RECONNECT_MIN_MS = 50;
const RECONNECT_MAX_MS = 1_000;

export interface AcceptorLinkHandler {
  connected(): void;
  message(message: AcceptorMessage): void;
  disconnected(): void;
}

/** The connection to one safekeeper, which is made again whenever it is lost. */
export class AcceptorLink {
  readonly address: ServerAddress;
  readonly #handler: AcceptorLinkHandler;
  readonly #logger: Logger;
  readonly #abort = new AbortController();
  #client: PgClient | undefined;
  #copy: CopyBoth | undefined;
  /** Why we have dropped the current connection. */
  #resetFor: string | undefined;
  /** Why the last connection failed. Kept so that the reason is logged once. */
  #problem = "";
  readonly #running: Promise<void>;

  constructor(address: ServerAddress, handler: AcceptorLinkHandler, logger: Logger) {
    this.address = address;
    this.#handler = handler;
    this.#logger = logger.child({ safekeeper: formatHostPort(address) });
    this.#running = this.#run();
  }

  /** The open stream; undefined while there is none. */
  get copy(): CopyBoth | undefined {
    return this.#copy;
  }

  /** Why there is no connection. Empty while there is one. */
  get problem(): string {
    return this.#problem;
  }

  /** Drops the connection, so that a new one is made. */
  reset(reason: string): void {
    this.#resetFor = reason;
    this.#client?.destroy();
  }

  async stop(): Promise<void> {
    this.#abort.abort(new Error("stopped"));
    this.#client?.destroy();
    await this.#running;
  }

  async #run(): Promise<void> {
    let delay = RECONNECT_MIN_MS;
    while (!this.#abort.signal.aborted) {
      try {
        await this.#connectOnce(() => delay = RECONNECT_MIN_MS);
        this.#note("the safekeeper has closed the connection");
      } catch (error) {
        this.#note(this.#resetFor ?? errorMessage(error));
      }
      this.#resetFor = undefined;
      if (this.#abort.signal.aborted) return;
      await sleep(delay, this.#abort.signal);
      delay = Math.min(delay * 2, RECONNECT_MAX_MS);
    }
  }

  async #connectOnce(onConnected: () => void): Promise<void> {
    const { signal } = this.#abort;
    const client = await connectServer("safekeeper", this.address, {
      applicationName: WAL_PROPOSER_NAME,
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
      signal,
    });
    this.#client = client;
    let wasConnected = false;
    try {
      const copy = await client.copyBoth(formatCommand(SAFEKEEPER.startWalPush, {}));
      this.#copy = copy;
      const running = copy.run({
        onData: (bytes, off, len) => {
          // Only an answer shows that all is well. A connection alone does not.
          this.#problem = "";
          onConnected();
          this.#handler.message(decodeAcceptorMessage(bytes, off, len));
        },
      });
      wasConnected = true;
      this.#handler.connected();
      await running;
    } finally {
      this.#copy = undefined;
      this.#client = undefined;
      client.destroy();
      if (wasConnected) this.#handler.disconnected();
    }
  }

  #note(problem: string): void {
    if (this.#abort.signal.aborted || problem === this.#problem) return;
    this.#problem = problem;
    this.#logger.warn(`no connection to the safekeeper: ${problem}`);
  }
}
