/** Merges a timeline's layers, and gives up versions on the way: one merge at a time, in the background. */
import { assert } from "../common/assert.ts";
import type { Disk } from "../common/disk.ts";
import { KeyRewriter, type Reconstruct, type RewriteCounts } from "./key_rewriter.ts";
import { type DiskLayer, pickMerge, type Run } from "./layer_map.ts";
import { mergeLayers } from "./merge_layers.ts";
import type { ObjectId } from "./object_id.ts";
import type { Retention } from "./retention.ts";
import type { TimelineStoreConfig } from "./store_options.ts";
import type { TimelineFiles } from "./timeline_files.ts";
import type { ValueChain } from "./value_chain.ts";

/** What a merge did. */
export interface MergeResult extends RewriteCounts {
  readonly layersBefore: number;
  readonly layersAfter: number;
  readonly bytesBefore: number;
  readonly bytesAfter: number;
}

export interface LayerUpkeepParts {
  readonly disk: Disk;
  readonly files: TimelineFiles;
  readonly config: Required<TimelineStoreConfig>;
  readonly reconstruct: Reconstruct | null;
  /** Adds the versions of a block at or below `lsn`, which may be ancestors'. */
  readonly collect: (object: ObjectId, block: number, lsn: number, chain: ValueChain) => void;
}

export class LayerUpkeep {
  readonly #parts: LayerUpkeepParts;
  /** The merge under way. */
  #merging: Promise<unknown> | null = null;
  #closed = false;

  constructor(parts: LayerUpkeepParts) {
    this.#parts = parts;
  }

  /** Merges the runs that are next. @returns null when nothing is due */
  compact(): Promise<MergeResult | null> {
    const { files, config } = this.#parts;
    return this.#oneAtATime(async () => {
      const due = pickMerge(files.layers.runs, config.mergeFanIn);
      return due === null ? null : await this.#merge(due.first, due.last, files.retention);
    });
  }

  /** Merges all runs that have something to be given up. @returns null when there are none */
  collectGarbage(): Promise<MergeResult | null> {
    const { files } = this.#parts;
    return this.#oneAtATime(async () => {
      const { retention } = files;
      const runs = files.layers.runs.filter((run) => run.startLsn < retention.cutoff);
      return runs.length === 0 ? null : await this.#merge(runs[0]!, runs.at(-1)!, retention);
    });
  }

  /** Breaks off a merge under way. */
  async close(): Promise<void> {
    this.#closed = true;
    while (this.#merging !== null) await this.#merging.catch(() => undefined);
  }

  async #oneAtATime<T>(work: () => Promise<T>): Promise<T> {
    assert(!this.#closed, "a closed timeline is not worked on");
    while (this.#merging !== null) await this.#merging.catch(() => undefined);
    const merging = work().finally(() => {
      this.#merging = null;
    });
    this.#merging = merging;
    return await merging;
  }

  async #merge(first: Run, last: Run, retention: Retention): Promise<MergeResult> {
    const { disk, files, config, reconstruct, collect } = this.#parts;
    const all = files.layers.runs;
    const runs = all.slice(all.indexOf(first), all.indexOf(last) + 1);
    const before = runs.flatMap((run) => run.layers);
    const rewriter = new KeyRewriter(
      config.chainLimits,
      retention,
      reconstruct,
      (object, block, chain) => collect(object, block, first.startLsn, chain),
    );
    const entries = await mergeLayers({
      disk,
      directory: files.directory,
      runs,
      rewriter,
      retention,
      newLayerNumber: () => files.newLayerNumber(),
      targetBytes: config.mergedLayerBytes,
      isCancelled: () => this.#closed,
    });
    // From here on there is no await: readers see either the old layers or the new ones.
    const after = entries.map((entry) => files.diskLayer(entry));
    try {
      files.commit(files.layers.replace(first, last, after), files.diskConsistentLsn);
    } catch (error) {
      files.removeAfterNextCommit(after);
      throw error;
    }
    files.remove(before);
    return {
      ...rewriter.counts,
      layersBefore: before.length,
      layersAfter: after.length,
      bytesBefore: totalBytes(before),
      bytesAfter: totalBytes(after),
    };
  }
}

function totalBytes(layers: readonly DiskLayer[]): number {
  let bytes = 0;
  for (const { entry } of layers) bytes += entry.fileSize;
  return bytes;
}
