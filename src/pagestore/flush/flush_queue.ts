/** Flushes frozen memory layers to files, one at a time, oldest first. */
import type { Lsn } from "../../common/lsn.ts";
import { flushHere, type FlushLayer } from "../memory/flush.ts";
import { LAYER_DELTA, layerKind } from "../layer/layer_format.ts";
import type { MemoryLayer } from "../memory/memory_layer.ts";
import type { ObjectTable } from "../value/object_id.ts";
import { NOTHING_GIVEN_UP } from "../value/retention.ts";
import type { StoreOptions } from "../files/store_options.ts";
import type { TimelineFiles } from "../files/timeline_files.ts";
import type { LayerEntry } from "../files/timeline_metadata.ts";

interface FrozenLayer {
  readonly memory: MemoryLayer;
  readonly endLsn: number;
  /** The layer's file, once it is complete but not yet in the metadata. */
  written: LayerEntry | null;
}

export class FlushQueue {
  readonly #files: TimelineFiles;
  readonly #objects: ObjectTable;
  readonly #nowMs: () => number;
  readonly #flushLayer: FlushLayer;
  readonly #valueFormat: number;
  readonly #retryMs: number;
  /** The frozen layers, oldest first. */
  readonly #frozen: FrozenLayer[] = [];
  /** The running flush of the oldest layer; null when none runs. */
  #flushing: Promise<void> | null = null;
  #error: unknown = null;
  #failedMs = 0;
  #closed = false;

  /** Called when a layer's memory has been released, and when a flush fails or no longer does. */
  readonly #changed: () => void;

  constructor(
    files: TimelineFiles,
    objects: ObjectTable,
    options: StoreOptions,
    retryMs: number,
    changed: () => void,
  ) {
    this.#changed = changed;
    this.#files = files;
    this.#objects = objects;
    this.#nowMs = options.nowMs;
    this.#flushLayer = options.flushLayer ?? flushHere(options.disk);
    this.#valueFormat = options.valueFormat ?? 0;
    this.#retryMs = retryMs;
  }

  /** The layers that are not yet in a file named by the metadata, oldest first. */
  get layers(): readonly { readonly memory: MemoryLayer }[] {
    return this.#frozen;
  }

  /** Up to where the newest layer reaches; null when there is none. */
  get endLsn(): number | null {
    return this.#frozen.at(-1)?.endLsn ?? null;
  }

  /** Why the last flush failed; null when it succeeded. */
  get error(): unknown {
    return this.#error;
  }

  add(memory: MemoryLayer, endLsn: Lsn): void {
    this.#frozen.push({ memory, endLsn, written: null });
  }

  /** Starts writing, unless a write is running or has just failed. */
  start(): void {
    if (this.#error === null || this.#nowMs() - this.#failedMs >= this.#retryMs) this.#start();
  }

  /**
   * Resolves when everything up to `lsn` is durable, whatever has been added meanwhile, or when
   * writing has failed. {@link error} then says why.
   */
  async flush(lsn: Lsn): Promise<void> {
    // A running flush may be about to fail for a reason that no longer exists, so it does not count
    // as an attempt.
    await this.#flushing;
    while (this.#files.diskConsistentLsn < lsn) {
      this.#start();
      if (this.#flushing === null) return;
      await this.#flushing;
      if (this.#error !== null) return;
    }
  }

  /**
   * Resolves when the layer that is being written is durable or has failed. @returns whether there
   * was one
   */
  async settled(): Promise<boolean> {
    if (this.#flushing === null) return false;
    await this.#flushing;
    return true;
  }

  /** Waits for a running flush and starts no more. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#flushing;
  }

  /** Starts a flush unless one is running. #flushing resolves even if the flush fails. */
  #start(): void {
    if (this.#flushing !== null || this.#frozen.length === 0 || this.#closed) return;
    this.#flushing = this.#flushOldest().then(
      () => {
        this.#flushing = null;
        if (this.#error !== null) {
          this.#error = null;
          this.#changed();
        }
        this.#start();
      },
      (error: unknown) => {
        this.#error = error;
        this.#failedMs = this.#nowMs();
        this.#flushing = null;
        this.#changed();
      },
    );
  }

  async #flushOldest(): Promise<void> {
    const frozen = this.#frozen[0];
    const { memory, endLsn } = frozen;
    if (frozen.written === null && !memory.isEmpty) frozen.written = await this.#write(memory, endLsn);
    const { written } = frozen;
    await this.#files.commit(
      (layers) => written === null ? layers : layers.with(this.#files.diskLayer(written)),
      endLsn,
      // Readers see either the frozen layer or the file.
      () => {
        this.#frozen.shift();
        memory.release();
        this.#changed();
      },
    );
  }

  async #write(memory: MemoryLayer, endLsn: number): Promise<LayerEntry> {
    const { directory } = this.#files;
    const { startLsn } = memory;
    // A failed attempt never reuses its number, so what it left on disk can't be mistaken for
    // another layer's file.
    const number = this.#files.newLayerNumber();
    const path = this.#files.layerPath(number);
    const frozen = memory.freeze(this.#objects);
    const valueFormat = this.#valueFormat;
    const written = await this.#flushLayer({ directory, path, startLsn, endLsn, valueFormat, frozen });
    const kind = layerKind(LAYER_DELTA, valueFormat);
    return { ...written, kind, number, level: 0, givenUp: NOTHING_GIVEN_UP, startLsn, endLsn };
  }
}
