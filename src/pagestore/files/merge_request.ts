/**
 * Defines everything that a merge needs to know, in a form that can be sent to another thread. A
 * merge works on files alone: those that it merges, and those in which earlier versions may lie.
 */
import { assert } from "../../common/assert.ts";
import type { ChainLimits, RewriteCounts } from "../layer/key_rewriter.ts";
import type { LayerEntry } from "./timeline_metadata.ts";

/** Layers of one timeline, and the LSN up to which they are read. */
export interface HistoryPart {
  readonly directory: string;
  readonly layers: readonly LayerEntry[];
  readonly limit: number;
}

export interface MergeRequest {
  readonly directory: string;
  /** As {@link StoreOptions.valueFormat}. */
  readonly valueFormat: number;
  /** The layers of the neighbouring runs to merge, oldest run first. */
  readonly runs: readonly (readonly LayerEntry[])[];
  /**
   * Where the versions that the runs build on may lie: the timeline's older layers, then its
   * ancestors' layers, nearest ancestor first.
   */
  readonly history: readonly HistoryPart[];
  readonly retention: { readonly cutoff: number; readonly points: readonly number[] };
  readonly chainLimits: ChainLimits;
  /** Once a file is this long, the next key starts a new file. */
  readonly targetBytes: number;
  /** Shared: see {@link LayerNumbers}. */
  readonly numbers: Int32Array;
  /** Shared: see {@link MergeControl}. */
  readonly control: Int32Array;
  /**
   * Shared: element 0 changes with every read that somebody waits for. null when nobody counts
   * reads.
   */
  readonly reads: Int32Array | null;
}

export interface MergeReply {
  /** New files. They are complete and durable, but not yet in any metadata. */
  readonly entries: readonly LayerEntry[];
  readonly counts: RewriteCounts;
}

/** Merges layers, perhaps in another thread. @throws {ZenithError} as mergeLayers */
export type MergeLayers = (request: MergeRequest) => Promise<MergeReply>;

/** Numbers layer files. Two threads may take numbers; each number is given out once. */
export class LayerNumbers {
  readonly shared: Int32Array;

  /** @param shared the memory of another instance to share, or the next number */
  constructor(shared: Int32Array | number) {
    if (typeof shared === "number") {
      this.shared = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
      this.shared[0] = shared;
    } else {
      this.shared = shared;
    }
  }

  /** The next number to be given out. */
  get next(): number {
    return Atomics.load(this.shared, 0) >>> 0;
  }

  take(): number {
    const number = Atomics.add(this.shared, 0, 1) >>> 0;
    assert(number < 0xffff_ffff, "a timeline does not run out of layer numbers");
    return number;
  }
}

const CANCELLED = 0;

/** Cancels a merge. */
export class MergeControl {
  readonly shared: Int32Array;

  constructor(shared: Int32Array = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))) {
    this.shared = shared;
  }

  get isCancelled(): boolean {
    return Atomics.load(this.shared, CANCELLED) !== 0;
  }

  cancel(): void {
    Atomics.store(this.shared, CANCELLED, 1);
    Atomics.notify(this.shared, CANCELLED);
  }

  /** Blocks the thread for `ms`, or until the merge is cancelled. */
  sleep(ms: number): void {
    Atomics.wait(this.shared, CANCELLED, 0, ms);
  }
}
