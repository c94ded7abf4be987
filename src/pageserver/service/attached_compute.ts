/** A compute that is attached to its timeline, which the page server can ask for a checkpoint. */
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { type Lsn, parseLsn } from "../../common/lsn.ts";
import type { CopyBoth } from "../../pgwire/copy_both.ts";
import { checkpointRequest, parseCheckpointReply } from "../../protocol/checkpoint_request.ts";

/** A checkpoint writes all dirty pages, however many there are. */
const CHECKPOINT_TIMEOUT_MS = 300_000;

interface Waiting {
  resolve(lsn: Lsn | null): void;
  reject(error: unknown): void;
}

export class AttachedCompute {
  readonly #copy: CopyBoth;
  readonly #waiting = new Map<number, Waiting>();
  #asked = 0;

  constructor(copy: CopyBoth) {
    this.#copy = copy;
  }

  /** Resolves when the compute has gone. */
  async run(): Promise<void> {
    try {
      await this.#copy.run({ onData: (bytes, off, len) => this.#hear(bytes.subarray(off, off + len)) });
    } finally {
      for (const { reject } of this.#waiting.values()) {
        reject(new ZenithError("unavailable", "the branch's Postgres has stopped"));
      }
      this.#waiting.clear();
    }
  }

  /**
   * Makes the compute's Postgres write an online checkpoint and begin a new WAL segment.
   *
   * @returns where its replay starts; null for a compute that writes nothing
   * @throws {ZenithError} `unavailable` when the compute stops, or can't; `timeout`
   */
  async checkpoint(signal: AbortSignal): Promise<Lsn | null> {
    const id = ++this.#asked;
    const { promise, resolve, reject } = Promise.withResolvers<Lsn | null>();
    const abort = (): void => reject(signal.reason);
    const timer = setTimeout(() => {
      reject(
        new ZenithError("timeout", "the branch's Postgres has written no checkpoint", {
          hint: "stop and start it, if it was started by an earlier version of Zenith",
        }),
      );
    }, CHECKPOINT_TIMEOUT_MS);
    signal.addEventListener("abort", abort);
    this.#waiting.set(id, { resolve, reject });
    try {
      signal.throwIfAborted();
      this.#copy.send(checkpointRequest(id));
      return await promise;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      this.#waiting.delete(id);
    }
  }

  #hear(bytes: Uint8Array): void {
    const { id, outcome } = parseCheckpointReply(bytes);
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    if ("failure" in outcome) {
      waiting.reject(new ZenithError("unavailable", `the branch's Postgres: ${outcome.failure}`));
      return;
    }
    try {
      waiting.resolve(outcome.redo === null ? null : parseLsn(outcome.redo));
    } catch (error) {
      waiting.reject(new ZenithError("protocol", errorMessage(error)));
    }
  }
}
