/** Merges the layers of neighbouring runs into the layers of one run. */
import type { Disk } from "../../common/disk.ts";
import { ZenithError } from "../../common/errors.ts";
import { nextTurn } from "../../common/event_loop.ts";
import { BlockCache } from "../layer/block_cache.ts";
import { KeyRewriter, type Reconstruct } from "../layer/key_rewriter.ts";
import { LayerCursor } from "../layer/layer_cursor.ts";
import { type LayerFiles, localLayers } from "../layer/layer_files.ts";
import { LAYER_DELTA, layerKind } from "../layer/layer_format.ts";
import { type DiskLayer, LayerMap, type Run } from "../files/layer_map.ts";
import { LayerReader } from "../layer/layer_reader.ts";
import { LayerWriter, type WrittenLayer } from "../layer/layer_writer.ts";
import {
  LayerNumbers,
  MergeControl,
  type MergeLayers,
  type MergeReply,
  type MergeRequest,
} from "../files/merge_request.ts";
import { compareObjects, type ObjectId, ObjectTable } from "../value/object_id.ts";
import { RecordStarts } from "../value/record_starts.ts";
import { type GivenUp, Retention } from "../value/retention.ts";
import { type LayerEntry, layerPath } from "../files/timeline_metadata.ts";
import type { ValueChain } from "../value/value_chain.ts";

/** How many bytes are processed between two pauses: some milliseconds of work. */
const SLICE_BYTES = 256 << 10;

/** Enough for the heads of the layers, and for blocks that are read again to make images. */
const CACHE_BYTES = 16 << 20;

/**
 * How many record starts are kept before each LSN that stays readable: the one at the LSN and two
 * before it.
 */
const STARTS_KEPT = 3;

/** Called after this many bytes and before the next ones, so that other work gets its turn. */
export type Pause = (bytes: number) => void | Promise<void>;

/** Merges in this thread, in slices between other work. */
export function mergeHere(disk: Disk, reconstruct?: Reconstruct): MergeLayers {
  return (request) => mergeLayers(disk, request, reconstruct ?? null, nextTurn);
}

/**
 * Merges the layers. Leaves new files that are complete and durable but not yet in any metadata, or
 * no files.
 *
 * @param layerFiles where the layers are read from; reads there must not throw `AbsentBytes`
 * @throws {ZenithError} `corrupt_data`, `disk_full`, `io`, `unavailable` when the merge was
 *   cancelled, and what reconstruction throws
 */
export async function mergeLayers(
  disk: Disk,
  request: MergeRequest,
  reconstruct: Reconstruct | null,
  pause: Pause,
  layerFiles: LayerFiles = localLayers(disk),
): Promise<MergeReply> {
  const files = new MergeInput(layerFiles, request);
  const retention = new Retention(request.retention.cutoff, request.retention.points);
  const rewriter = new KeyRewriter(
    request.chainLimits,
    retention,
    reconstruct,
    (object, block, chain) => files.collectBefore(object, block, chain),
  );
  let output: MergeOutput | null = null;
  try {
    output = new MergeOutput(disk, request, files.runs, retention);
    await mergeKeys(files.runs, rewriter, output, pause, new MergeControl(request.control));
    return { entries: output.finish(), counts: rewriter.counts };
  } catch (error) {
    output?.abort();
    throw error;
  } finally {
    files.close();
  }
}

/** The files that a merge reads. */
class MergeInput {
  readonly runs: readonly Run[];
  readonly #layerFiles: LayerFiles;
  readonly #objects = new ObjectTable();
  readonly #cache = new BlockCache(CACHE_BYTES);
  readonly #history: readonly { readonly layers: LayerMap; readonly limit: number }[];
  readonly #readers: LayerReader[] = [];

  constructor(layerFiles: LayerFiles, request: MergeRequest) {
    this.#layerFiles = layerFiles;
    this.runs = this.#map(request.directory, request.runs.flat()).runs;
    this.#history = request.history.map(({ directory, layers, limit }) => ({
      layers: this.#map(directory, layers),
      limit,
    }));
  }

  /** Adds a block's versions from before the runs. */
  collectBefore(object: ObjectId, block: number, chain: ValueChain): void {
    const slot = this.#objects.slot(object.kind, object.a, object.b, object.c, object.d);
    for (const { layers, limit } of this.#history) {
      layers.collect(slot, block, limit, -1, chain, this.#objects);
      if (chain.complete) return;
    }
  }

  close(): void {
    for (const reader of this.#readers) reader.close();
  }

  #map(directory: string, entries: readonly LayerEntry[]): LayerMap {
    return LayerMap.of(entries.map((entry): DiskLayer => {
      const path = layerPath(directory, entry.number);
      const reader = new LayerReader(this.#layerFiles, path, entry, this.#cache, this.#objects);
      this.#readers.push(reader);
      return { entry, reader };
    }));
  }
}

/** Goes through the layers of a run, one after another. */
class RunCursor {
  readonly #layers: readonly DiskLayer[];
  #next = 0;
  cursor: LayerCursor | null = null;

  constructor(run: Run) {
    this.#layers = run.layers;
    this.settle();
  }

  /** Call it after the layer's cursor has moved: goes on to the next layer if this one is done. */
  settle(): void {
    while ((this.cursor === null || this.cursor.done) && this.#next < this.#layers.length) {
      this.cursor = new LayerCursor(this.#layers[this.#next++].reader);
    }
    if (this.cursor !== null && this.cursor.done) this.cursor = null;
  }
}

async function mergeKeys(
  runs: readonly Run[],
  rewriter: KeyRewriter,
  output: MergeOutput,
  pause: Pause,
  control: MergeControl,
): Promise<void> {
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
    // Take the oldest run first, so that a key's versions come in the order of their LSNs.
    for (const runCursor of cursors) {
      const cursor = runCursor.cursor;
      if (cursor === null || cursor.block !== block || compareObjects(cursor.object, object) !== 0) continue;
      while (cursor.nextEntry()) {
        const { lsn, tag, flags, bytes, off, len } = cursor;
        rewriter.add(writer, lsn, tag, flags, bytes, off, len);
        readBytes += len;
        if (readBytes >= SLICE_BYTES) {
          await pause(readBytes);
          readBytes = 0;
          if (control.isCancelled) {
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

/** The files that a merge writes for the new run. */
class MergeOutput {
  readonly #disk: Disk;
  readonly #request: MergeRequest;
  readonly #numbers: LayerNumbers;
  readonly #startLsn: number;
  readonly #endLsn: number;
  readonly #level: number;
  readonly #givenUp: GivenUp;
  readonly #starts: RecordStarts;
  readonly #entries: LayerEntry[] = [];
  #writer: LayerWriter | null = null;
  #number = 0;

  constructor(disk: Disk, request: MergeRequest, runs: readonly Run[], retention: Retention) {
    this.#disk = disk;
    this.#request = request;
    this.#numbers = new LayerNumbers(request.numbers);
    this.#startLsn = runs[0].startLsn;
    this.#endLsn = runs.at(-1)!.endLsn;
    this.#level = Math.max(...runs.map((run) => run.level)) + (runs.length > 1 ? 1 : 0);
    this.#givenUp = retention.givenUp(this.#startLsn, this.#endLsn);
    this.#starts = mergedStarts(runs, retention);
  }

  /** Returns the writer for the next key. */
  writer(): LayerWriter {
    if (this.#writer !== null && this.#writer.sizeBytes >= this.#request.targetBytes) {
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
    for (const { number } of this.#entries) {
      try {
        this.#disk.unlinkSync(layerPath(this.#request.directory, number));
      } catch {
        // The next start removes the file, because no metadata names it. Report the failure that
        // led here instead.
      }
    }
  }

  #kind(): number {
    return layerKind(LAYER_DELTA, this.#request.valueFormat);
  }

  #newWriter(): LayerWriter {
    const { directory } = this.#request;
    this.#number = this.#numbers.take();
    const path = layerPath(directory, this.#number);
    return new LayerWriter(this.#disk, directory, path, this.#kind(), this.#startLsn, this.#endLsn);
  }

  #finishFile(): void {
    const written: WrittenLayer = this.#writer!.finish(
      this.#entries.length === 0 ? this.#starts.blocks() : null,
    );
    this.#writer = null;
    this.#entries.push({
      ...written,
      kind: this.#kind(),
      number: this.#number,
      level: this.#level,
      givenUp: this.#givenUp,
      startLsn: this.#startLsn,
      endLsn: this.#endLsn,
    });
  }
}

/** Returns the record starts of all runs, except those that no readable LSN needs. */
function mergedStarts(runs: readonly Run[], retention: Retention): RecordStarts {
  const starts = new RecordStarts();
  let recent: number[] = [];
  for (const run of runs) {
    run.layers[0].reader.forEachStart((start) => {
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
