/**
 * Whole clusters on their way in or out: imports, exports and base backups, with how far they are.
 * Those that have ended are remembered for a while, until the page server is started again.
 */
import { errorMessage } from "../../common/errors.ts";
import type { BranchName, TenantId } from "../../common/id.ts";
import { whenPresent } from "../../pagestore/mod.ts";
import type { TransferJson } from "../../protocol/management.ts";
import type { Timeline } from "../timeline/timeline.ts";

/** How many that have ended are remembered. */
const ENDED_MAX = 50;

export interface TransferAbout {
  /** `follow` is the copy of a primary that is followed from then on. */
  readonly kind: "import" | "follow" | "export" | "base_backup";
  readonly tenant: TenantId;
  /** The branch that it makes or reads; null for one without a name. */
  readonly branch: BranchName | null;
  /** From where, or whereto, without passwords. */
  readonly peer: string;
  /** How much there will be, as far as that is known; null when it is not. */
  readonly estimatedBytes: number | null;
}

/** One of them, while it runs. */
export class Transfer {
  readonly id: number;
  readonly about: TransferAbout;
  readonly #startedMs = Date.now();
  #endedMs: number | null = null;
  #step: TransferJson["step"] = "files";
  #bytes = 0;
  #error: string | null = null;

  constructor(id: number, about: TransferAbout) {
    this.id = id;
    this.about = about;
  }

  /** @param bytes how many more have come or gone */
  count(bytes: number): void {
    this.#bytes += bytes;
  }

  /** All files are there; what is left is to apply their WAL. */
  beginWal(): void {
    this.#step = "wal";
  }

  /** @param error why it has failed; undefined when it has not */
  end(error?: unknown): void {
    this.#endedMs = Date.now();
    this.#error = error === undefined ? null : errorMessage(error);
  }

  /** Counts what passes. */
  async *counted(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      this.count(chunk.length);
      yield chunk;
    }
  }

  json(): TransferJson {
    const { kind, tenant, branch, peer, estimatedBytes } = this.about;
    return {
      id: this.id,
      kind,
      tenant_id: tenant,
      branch,
      peer,
      step: this.#step,
      bytes: this.#bytes,
      estimated_bytes: estimatedBytes,
      started_at: new Date(this.#startedMs).toISOString(),
      ended_at: this.#endedMs === null ? null : new Date(this.#endedMs).toISOString(),
      error: this.#error,
    };
  }
}

/** The size of what a timeline's export has, in bytes. Null when it can't be determined. */
export async function estimateOf(timeline: Timeline): Promise<number | null> {
  try {
    return await whenPresent(() => timeline.sizes().logical);
  } catch {
    // What is damaged there, the export says if it needs it.
    return null;
  }
}

export class Transfers {
  readonly #running = new Set<Transfer>();
  readonly #ended: Transfer[] = [];
  #last = 0;

  /** Does `work` as a transfer. @throws what it throws */
  async run<T>(about: TransferAbout, work: (transfer: Transfer) => Promise<T>): Promise<T> {
    const transfer = new Transfer(++this.#last, about);
    this.#running.add(transfer);
    try {
      const result = await work(transfer);
      transfer.end();
      return result;
    } catch (error) {
      transfer.end(error ?? "it was ended");
      throw error;
    } finally {
      this.#running.delete(transfer);
      this.#ended.push(transfer);
      if (this.#ended.length > ENDED_MAX) this.#ended.shift();
    }
  }

  /** Those that run, then those that have ended; the newest first. */
  list(): Transfer[] {
    return [...[...this.#running].reverse(), ...this.#ended.toReversed()];
  }
}
