/** Tells the page server that a compute runs on its timeline. */
import { errorMessage } from "../common/errors.ts";
import type { Logger } from "../process/log.ts";
import { sleep } from "../common/sleep.ts";
import type { PgClient } from "../pgwire/client.ts";
import { formatLsn, type Lsn } from "../common/lsn.ts";
import type { CopyBoth } from "../pgwire/copy_both.ts";
import {
  type CheckpointOutcome,
  checkpointReply,
  parseCheckpointRequest,
} from "../protocol/checkpoint_request.ts";
import { connectPageServer, timelineArgs } from "./page_server_link.ts";
import type { ComputeIdentity } from "./postgres/postgres_conf.ts";
import { PAGE_SERVER } from "../protocol/management.ts";
import { formatCommand } from "../protocol/operation.ts";

/** How long to wait before connecting again to a page server that was away. */
const RETRY_MS = 1_000;

/**
 * Tells the page server that a compute runs on its timeline, through a connection that stays open.
 * The page server doesn't delete the timeline meanwhile. With safekeepers, or when a compute only
 * reads the past, it would not learn about the compute otherwise.
 */
export class Attachment {
  readonly #compute: ComputeIdentity;
  readonly #log: Logger;
  readonly #abort = new AbortController();
  readonly #asked: CheckpointRequests;
  readonly #running: Promise<void>;

  private constructor(
    compute: ComputeIdentity,
    log: Logger,
    first: AttachedConnection,
    asked: CheckpointRequests,
  ) {
    this.#compute = compute;
    this.#log = log;
    this.#asked = asked;
    this.#running = this.#keep(first);
  }

  /** @throws {ZenithError} why the page server refuses: `not_found`, `unavailable`, … */
  static async open(compute: ComputeIdentity, log: Logger): Promise<Attachment> {
    const asked: CheckpointRequests = { take: undefined };
    return new Attachment(compute, log, await attach(compute, asked), asked);
  }

  /**
   * From now on, answers the page server when it asks for a checkpoint. Without this, a compute
   * answers that it writes nothing.
   *
   * @param take makes Postgres write an online checkpoint, and returns where its replay starts
   */
  takeCheckpoints(take: () => Promise<Lsn>): void {
    this.#asked.take = take;
  }

  async close(): Promise<void> {
    this.#abort.abort(new Error("stopped"));
    await this.#running;
  }

  async #keep(first: AttachedConnection): Promise<void> {
    const { signal } = this.#abort;
    let connection: AttachedConnection | undefined = first;
    let problem = "";
    while (!signal.aborted) {
      try {
        connection ??= await attach(this.#compute, this.#asked, signal);
        problem = "";
        await connection.untilLost(signal);
      } catch (error) {
        if (signal.aborted) return;
        if (errorMessage(error) !== problem) {
          this.#log.warn(`the page server does not know of this compute: ${errorMessage(error)}`);
        }
        problem = errorMessage(error);
      }
      connection = undefined;
      await sleep(RETRY_MS, signal);
    }
  }
}

interface CheckpointRequests {
  take: (() => Promise<Lsn>) | undefined;
}

interface AttachedConnection {
  /** Closes the connection when `signal` is aborted. @throws the error that broke the connection */
  untilLost(signal: AbortSignal): Promise<void>;
}

async function attach(
  compute: ComputeIdentity,
  asked: CheckpointRequests,
  signal?: AbortSignal,
): Promise<AttachedConnection> {
  const client: PgClient = await connectPageServer(compute, signal);
  try {
    const copy = await client.copyBoth(formatCommand(PAGE_SERVER.computeAttach, timelineArgs(compute)));
    const lost = copy.run({
      onData(bytes, off, len) {
        const id = parseCheckpointRequest(bytes.subarray(off, off + len));
        if (id !== undefined) void answer(copy, id, asked);
      },
    });
    // The connection may be lost before anybody waits for that.
    lost.catch(() => {});
    return {
      async untilLost(signal) {
        const end = (): void => client.destroy();
        signal.addEventListener("abort", end);
        try {
          if (!signal.aborted) await lost;
        } finally {
          signal.removeEventListener("abort", end);
          client.destroy();
        }
      },
    };
  } catch (error) {
    client.destroy();
    throw error;
  }
}

/** Never rejects. */
async function answer(copy: CopyBoth, id: number, { take }: CheckpointRequests): Promise<void> {
  let outcome: CheckpointOutcome;
  try {
    outcome = { redo: take === undefined ? null : formatLsn(await take()) };
  } catch (error) {
    outcome = { failure: errorMessage(error) };
  }
  if (copy.sending) copy.send(checkpointReply(id, outcome));
}
