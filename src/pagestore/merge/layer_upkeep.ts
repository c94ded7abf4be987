/**
 * Merges a timeline's layers and removes unneeded versions while doing so. One merge runs at a
 * time, in the background.
 */
import { OneAtATime } from "../../common/one_at_a_time.ts";
import type { RewriteCounts } from "../layer/key_rewriter.ts";
import type { DiskLayer, Run } from "../files/layer_map.ts";
import { type DueMerge, pickGarbage, pickMerge } from "./merge_policy.ts";
import { type HistoryPart, MergeControl, type MergeLayers } from "../files/merge_request.ts";
import type { Retention } from "../value/retention.ts";
import type { TimelineStoreConfig } from "../files/store_options.ts";
import type { TimelineFiles } from "../files/timeline_files.ts";
import type { LayerEntry } from "../files/timeline_metadata.ts";

/** What a merge did. */
export interface MergeResult extends RewriteCounts {
  readonly layersBefore: number;
  readonly layersAfter: number;
  readonly bytesBefore: number;
  readonly bytesAfter: number;
}

export interface LayerUpkeepParts {
  readonly files: TimelineFiles;
  readonly config: Required<TimelineStoreConfig>;
  readonly mergeLayers: MergeLayers;
  readonly valueFormat: number;
  /** Counts reads, for a merge in another thread. Shared. */
  readonly reads: Int32Array | null;
  /**
   * Writes to files what ancestors have at or below the LSN where this timeline reads from them,
   * and keeps the files.
   */
  readonly pinAncestors: () => Promise<PinnedHistory>;
}

/** Files that are kept as long as they are being read. */
export interface PinnedHistory {
  readonly parts: readonly HistoryPart[];
  unpin(): void;
}

export class LayerUpkeep {
  readonly #parts: LayerUpkeepParts;
  readonly #work = new OneAtATime();
  readonly #control = new MergeControl();
  #closed = false;

  constructor(parts: LayerUpkeepParts) {
    this.#parts = parts;
  }

  /** Merges the runs that are next. @returns null when nothing is due */
  compact(): Promise<MergeResult | null> {
    const { files, config } = this.#parts;
    return this.#oneAtATime(async () => {
      const due = pickMerge(files.layers.runs, config.mergeFanIn);
      return due === null ? null : await this.#merge(due, files.retention);
    });
  }

  /** Rewrites the runs that have enough garbage. @returns null when there were none */
  collectGarbage(): Promise<MergeResult | null> {
    const { files } = this.#parts;
    return this.#oneAtATime(async () => {
      const { retention } = files;
      let done: MergeResult | null = null;
      for (;;) {
        // Look again each time: layers are flushed meanwhile.
        const due = pickGarbage(files.layers.runs, retention);
        if (due === null) break;
        done = sum(done, await this.#merge(due, retention));
      }
      // What can't be read any more must not become readable after a restart.
      if (done === null) await files.commit((layers) => layers);
      return done;
    });
  }

  /** Cancels a running merge. Those who wait for it get an error. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#control.cancel();
    await this.#work.settled();
  }

  #oneAtATime<T>(work: () => Promise<T>): Promise<T> {
    return this.#work.run(() => {
      if (this.#closed) throw this.#parts.files.closingError();
      return work();
    });
  }

  async #merge({ first, last }: DueMerge, retention: Retention): Promise<MergeResult> {
    const { files, config, mergeLayers, valueFormat, reads, pinAncestors } = this.#parts;
    const all = files.layers.runs;
    const from = all.indexOf(first);
    const runs = all.slice(from, all.indexOf(last) + 1);
    const before = runs.flatMap((run) => run.layers);
    const older = {
      directory: files.directory,
      layers: entriesOf(all.slice(0, from)),
      limit: first.startLsn,
    };
    const ancestors = await pinAncestors();
    let reply;
    try {
      reply = await mergeLayers({
        directory: files.directory,
        valueFormat,
        runs: runs.map((run) => entriesOf([run])),
        history: [older, ...ancestors.parts],
        retention: { cutoff: retention.cutoff, points: retention.points },
        chainLimits: config.chainLimits,
        targetBytes: config.mergedLayerBytes,
        numbers: files.sharedNumbers,
        control: this.#control.shared,
        reads,
      });
    } finally {
      ancestors.unpin();
    }
    const after = reply.entries.map((entry) => files.diskLayer(entry));
    try {
      await files.commit((layers) => layers.replace(first, last, after));
    } catch (error) {
      files.removeAfterNextCommit(after);
      throw error;
    }
    files.remove(before);
    return {
      ...reply.counts,
      layersBefore: before.length,
      layersAfter: after.length,
      bytesBefore: totalBytes(before),
      bytesAfter: totalBytes(after),
    };
  }
}

function entriesOf(runs: readonly Run[]): LayerEntry[] {
  return runs.flatMap((run) => run.layers).map((layer) => layer.entry);
}

function sum(one: MergeResult | null, other: MergeResult): MergeResult {
  if (one === null) return other;
  return {
    versionsDropped: one.versionsDropped + other.versionsDropped,
    imagesMade: one.imagesMade + other.imagesMade,
    layersBefore: one.layersBefore + other.layersBefore,
    layersAfter: one.layersAfter + other.layersAfter,
    bytesBefore: one.bytesBefore + other.bytesBefore,
    bytesAfter: one.bytesAfter + other.bytesAfter,
  };
}

function totalBytes(layers: readonly DiskLayer[]): number {
  let bytes = 0;
  for (const { entry } of layers) bytes += entry.fileSize;
  return bytes;
}
