/**
 * Writes layer files of one LSN that bypass the memory layers. They hold what a single record
 * brings when it is too much for memory. This thread writes them piece by piece. Readers see them
 * all at once, when the timeline installs them.
 */
import { assert } from "../../common/assert.ts";
import type { Disk } from "../../common/disk.ts";
import { nextTurn } from "../../common/event_loop.ts";
import { noteShortLived } from "../../common/garbage.ts";
import { LAYER_DELTA } from "../layer/layer_format.ts";
import { LayerWriter } from "../layer/layer_writer.ts";
import type { ObjectId } from "../value/object_id.ts";
import { RecordStarts } from "../value/record_starts.ts";
import { type GivenUp, NOTHING_GIVEN_UP } from "../value/retention.ts";
import { VALUE_WILL_INIT } from "../value/value_chain.ts";
import type { TimelineFiles } from "./timeline_files.ts";
import type { LayerEntry } from "./timeline_metadata.ts";

/** How many milliseconds it writes before it yields the thread. */
const TURN_MS = 2;

export interface BulkLayersOptions {
  readonly disk: Disk;
  readonly files: TimelineFiles;
  /** A file is closed once it is this long. */
  readonly targetBytes: number;
  /** The end of the timeline. The files cover the LSNs above it … */
  readonly startLsn: number;
  /** … up to this one. All their versions are at this LSN. */
  readonly lsn: number;
  /** The start of the record. Null when what comes is of no record. */
  readonly recordStart: number | null;
  /** As {@link LayerEntry.level}. Default: 0. */
  readonly level?: number;
  /** As {@link LayerEntry.givenUp}. Default: nothing. */
  readonly givenUp?: GivenUp;
}

export class BulkLayers {
  readonly lsn: number;
  /** Whether what comes from now on is compressed. Somebody who waits for it waits longer then. */
  compresses = true;
  readonly #options: BulkLayersOptions;
  readonly #starts = new RecordStarts();
  readonly #entries: LayerEntry[] = [];
  #writer: LayerWriter | null = null;
  #number = 0;
  #turnEndMs = performance.now() + TURN_MS;

  constructor(options: BulkLayersOptions) {
    this.#options = options;
    this.lsn = options.lsn;
    if (options.recordStart !== null) this.#starts.add(options.recordStart);
  }

  /**
   * Adds a version of the block. Keys must come in ascending order.
   *
   * @throws {ZenithError} `disk_full`, `io`
   */
  put(object: ObjectId, block: number, bytes: Uint8Array, tag: number): void {
    const writer = this.#writer ??= this.#newWriter();
    writer.compresses = this.compresses;
    writer.startKey(object, block);
    writer.add(this.lsn, bytes, 0, bytes.length, tag, VALUE_WILL_INIT);
    // Compression allocates its output outside the heap.
    if (this.compresses) noteShortLived(bytes.length);
  }

  /**
   * Yields the thread when it is time. Await this between two values.
   *
   * @throws {ZenithError} `disk_full`, `io`; the reason of an aborted `signal`
   */
  async pause(signal: AbortSignal): Promise<void> {
    if (performance.now() < this.#turnEndMs) return;
    if (this.#writer !== null && this.#writer.sizeBytes >= this.#options.targetBytes) {
      await this.#finishFile();
    }
    await nextTurn();
    signal.throwIfAborted();
    this.#turnEndMs = performance.now() + TURN_MS;
  }

  /** Completes the files. @throws {ZenithError} `disk_full`, `io` */
  async finish(): Promise<void> {
    if (this.#writer !== null) await this.#finishFile();
  }

  /** The files, once they are complete. */
  get entries(): readonly LayerEntry[] {
    assert(this.#writer === null && this.#entries.length > 0, "files are taken in when they are complete");
    return this.#entries;
  }

  /** Removes the files if the disk allows it. The next start removes what is left. */
  abort(): void {
    const { disk, files } = this.#options;
    const numbers = this.#entries.splice(0).map(({ number }) => number);
    if (this.#writer !== null) {
      this.#writer.abort();
      this.#writer = null;
      // The file may already have its final name.
      numbers.push(this.#number);
    }
    for (const number of numbers) {
      try {
        disk.unlinkSync(files.layerPath(number));
      } catch {
        // Report the failure that led here instead.
      }
    }
  }

  #newWriter(): LayerWriter {
    const { disk, files, startLsn } = this.#options;
    this.#number = files.newLayerNumber();
    const path = files.layerPath(this.#number);
    return new LayerWriter(disk, files.directory, path, LAYER_DELTA, startLsn, this.lsn);
  }

  async #finishFile(): Promise<void> {
    const writer = this.#writer;
    assert(writer !== null, "a file is being written");
    const hasStarts = this.#options.recordStart !== null && this.#entries.length === 0;
    const written = await writer.finishInBackground(hasStarts ? this.#starts.blocks() : null);
    this.#writer = null;
    this.#entries.push({
      ...written,
      kind: LAYER_DELTA,
      number: this.#number,
      level: this.#options.level ?? 0,
      givenUp: this.#options.givenUp ?? NOTHING_GIVEN_UP,
      startLsn: this.#options.startLsn,
      endLsn: this.lsn,
    });
  }
}
