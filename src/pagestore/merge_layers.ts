/** Merges the layers of neighbouring runs into the layers of one run. */
import { setImmediate } from "node:timers";
import type { Disk } from "../common/disk.ts";
import { ZenithError } from "../common/errors.ts";
import type { KeyRewriter } from "./key_rewriter.ts";
import { LayerCursor } from "./layer_cursor.ts";
import { LAYER_DELTA } from "./layer_format.ts";
import type { DiskLayer, Run } from "./layer_map.ts";
import { LayerWriter, type WrittenLayer } from "./layer_writer.ts";
import { compareObjects } from "./object_id.ts";
import { RecordStarts } from "./record_starts.ts";
import type { Retention } from "./retention.ts";
import { type LayerEntry, layerPath } from "./timeline_metadata.ts";

/** Read between two chances for other work: some 0.2 ms of it. */
const SLICE_BYTES = 256 << 10;

/** Of the record starts before an LSN that stays readable, this many are kept: the one at it, and two before that. */
const STARTS_KEPT = 3;

export interface MergeOptions {
  readonly disk: Disk;
  readonly directory: string;
  /** Neighbours, oldest first. */
  readonly runs: readonly Run[];
  readonly rewriter: KeyRewriter;
  readonly retention: Retention;
  readonly newLayerNumber: () => number;
  /** A file that has become this long is the last one of its keys. */
  readonly targetBytes: number;
  /** Asked between slices of work; true ends it with an error. */
  readonly isCancelled: () => boolean;
}

/** Goes through the layers of a run, one after the other. */
class RunCursor {
  readonly #layers: readonly DiskLayer[];
  #next = 0;
  cursor: LayerCursor | null = null;

  constructor(run: Run) {
    this.#layers = run.layers;
    this.settle();
  }

  /** After a change of the layer's cursor: goes on to the next layer if that one is done. */
  settle(): void {
    while ((this.cursor === null || this.cursor.done) && this.#next < this.#layers.length) {
      this.cursor = new LayerCursor(this.#layers[this.#next++]!.reader);
    }
    if (this.cursor !== null && this.cursor.done) this.cursor = null;
  }
}

/**
 * Leaves new files that are complete and durable but in no metadata yet; or none.
 *
 * @throws {ZenithError} `corrupt_data`, `disk_full`, `io`, and what reconstruction throws
 */
export async function mergeLayers(options: MergeOptions): Promise<LayerEntry[]> {
  const output = new MergeOutput(options);
  try {
    await mergeKeys(options, output);
    return output.finish();
  } catch (error) {
    output.abort();
    throw error;
  }
}

async function mergeKeys({ runs, rewriter, isCancelled }: MergeOptions, output: MergeOutput): Promise<void> {
  const cursors = runs.map((run) => new RunCursor(run));
  let readBytes = 0;
  for (;;) {
    let least: LayerCursor | null = null;
    for (const { cursor } of cursors) {
      if (cursor !== null && (least === null || cursor.compareKey(least) < 0)) least = cursor;
    }
    if (least === null) return;
    const { object, block } = least;
    const writer = output.writer();
    rewriter.startKey(object, block);
    // Oldest run first, so that the versions of a key come in the order of their LSNs.
    for (const runCursor of cursors) {
      const cursor = runCursor.cursor;
      if (cursor === null || cursor.block !== block || compareObjects(cursor.object, object) !== 0) continue;
      while (cursor.nextEntry()) {
        const { lsn, tag, flags, bytes, off, len } = cursor;
        rewriter.add(writer, lsn, tag, flags, bytes, off, len);
        readBytes += len;
        if (readBytes >= SLICE_BYTES) {
          readBytes = 0;
          await giveWay();
          if (isCancelled()) {
            throw new ZenithError("unavailable", "the merge was given up: the timeline is closing");
          }
        }
      }
      cursor.nextKey();
      runCursor.settle();
    }
    rewriter.endKey(writer);
  }
}

/** Lets timers, sockets and files have their turn. */
function giveWay(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** The files of the new run. */
class MergeOutput {
  readonly #options: MergeOptions;
  readonly #startLsn: number;
  readonly #endLsn: number;
  readonly #level: number;
  readonly #starts: RecordStarts;
  readonly #entries: LayerEntry[] = [];
  #writer: LayerWriter | null = null;
  #number = 0;

  constructor(options: MergeOptions) {
    const { runs, retention } = options;
    this.#options = options;
    this.#startLsn = runs[0]!.startLsn;
    this.#endLsn = runs.at(-1)!.endLsn;
    this.#level = Math.max(...runs.map((run) => run.level)) + (runs.length > 1 ? 1 : 0);
    this.#starts = mergedStarts(runs, retention);
  }

  /** Where the next key goes. */
  writer(): LayerWriter {
    if (this.#writer !== null && this.#writer.sizeBytes >= this.#options.targetBytes) {
      this.#finishFile();
    }
    return this.#writer ??= this.#newWriter();
  }

  finish(): LayerEntry[] {
    if (this.#writer === null && this.#entries.length === 0 && this.#starts.count > 0) {
      this.#writer = this.#newWriter();
    }
    if (this.#writer !== null) this.#finishFile();
    return this.#entries;
  }

  abort(): void {
    this.#writer?.abort();
    const { disk, directory } = this.#options;
    for (const { number } of this.#entries) {
      try {
        disk.unlinkSync(layerPath(directory, number));
      } catch {
        // In no metadata, so it is removed at the next start; the failure that led here is the one to report.
      }
    }
  }

  #newWriter(): LayerWriter {
    const { disk, directory, newLayerNumber } = this.#options;
    this.#number = newLayerNumber();
    const path = layerPath(directory, this.#number);
    return new LayerWriter(disk, directory, path, LAYER_DELTA, this.#startLsn, this.#endLsn);
  }

  #finishFile(): void {
    const written: WrittenLayer = this.#writer!.finish(
      this.#entries.length === 0 ? this.#starts.blocks() : null,
    );
    this.#writer = null;
    this.#entries.push({
      ...written,
      kind: LAYER_DELTA,
      number: this.#number,
      level: this.#level,
      startLsn: this.#startLsn,
      endLsn: this.#endLsn,
    });
  }
}

/** The record starts of all runs, without those that no LSN that stays readable asks for. */
function mergedStarts(runs: readonly Run[], retention: Retention): RecordStarts {
  const starts = new RecordStarts();
  let recent: number[] = [];
  for (const run of runs) {
    run.layers[0]!.reader.forEachStart((start) => {
      const last = recent.at(-1);
      if (last !== undefined && retention.next(last) < start) {
        for (const kept of recent) starts.add(kept);
        recent = [];
      }
      recent.push(start);
      if (recent.length > STARTS_KEPT) recent.shift();
    });
  }
  for (const kept of recent) starts.add(kept);
  return starts;
}
