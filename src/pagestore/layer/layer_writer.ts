/**
 * Writes a layer file from keys in ascending order. The file gets its name only when it is complete
 * and durable; until then it is called `….tmp`. Everything is synchronous, because the caller's
 * thread has nothing else to do.
 */
import { assert } from "../../common/assert.ts";
import { crc32c } from "../../common/crc32c.ts";
import { type Disk, type DiskFile, TEMPORARY_SUFFIX } from "../../common/disk.ts";
import { ioError, ZenithError } from "../../common/errors.ts";
import { storeBlock, type StoredBlock, storeRaw } from "./compress.ts";
import {
  DATA_BLOCK_BYTES,
  ENTRY_BYTES,
  FOOTER_BYTES,
  FOOTER_CRC,
  FOOTER_END_LSN,
  FOOTER_FILE_SIZE,
  FOOTER_HEAD_CRC,
  FOOTER_HEAD_OFFSET,
  FOOTER_HEAD_RAW,
  FOOTER_HEAD_STORED,
  FOOTER_KIND,
  FOOTER_MAGIC,
  FOOTER_START_LSN,
  FOOTER_VERSION,
  HEAD_DATA_BLOCKS,
  HEAD_ENTRIES,
  HEAD_FIXED_WORDS,
  HEAD_INDEX_BLOCKS,
  HEAD_KEYS,
  HEAD_OBJECTS,
  HEAD_START_BLOCKS,
  HEADER_BYTES,
  HEADER_KIND,
  HEADER_VERSION,
  highWord,
  indexBlockBytes,
  KEYS_PER_INDEX_BLOCK,
  LAYER_MAGIC,
  LAYER_VERSION,
  lowWord,
  MAX_BLOCK_BYTES,
} from "./layer_format.ts";
import { compareObjects, type Key, type KeyRange, type ObjectId } from "../value/object_id.ts";
import type { StartBlocks } from "../value/record_starts.ts";

/** The number of bytes per write to the file. */
const WRITE_BYTES = 256 << 10;

/** Up to this length, a loop is faster than the view that `set` needs. */
const LOOP_COPY = 192;
/** How many bytes the loop copies at once. This takes half as long as copying byte by byte. */
const COPY_STEP = 8;

/**
 * The number of entries in a data block of minimal values: each takes ENTRY_BYTES, even without a
 * value.
 */
const MAX_ENTRIES_PER_BLOCK = Math.ceil(DATA_BLOCK_BYTES / ENTRY_BYTES);

/**
 * The size of a data block with everything that belongs to it, unless its last value is a large
 * one.
 */
const RAW_BYTES = 4 + 2 * DATA_BLOCK_BYTES;

/** What identifies a complete layer file. */
export interface WrittenLayer {
  readonly fileSize: number;
  readonly footerCrc: number;
  /** null when the file has no key. */
  readonly keys: KeyRange | null;
}

/** A growing column of words. */
class Column {
  length = 0;
  #words = new Uint32Array(64);

  push(value: number): void {
    if (this.length === this.#words.length) {
      const words = new Uint32Array(2 * this.#words.length);
      words.set(this.#words);
      this.#words = words;
    }
    this.#words[this.length++] = value;
  }

  last(): number {
    return this.#words[this.length - 1];
  }

  words(from = 0, to: number = this.length): Uint32Array {
    return this.#words.subarray(from, to);
  }
}

/** The five columns that locate a section's blocks. */
class HandleColumns {
  readonly offsetLow = new Column();
  readonly offsetHigh = new Column();
  readonly storedLen = new Column();
  readonly rawLen = new Column();
  readonly crc = new Column();

  push(offset: number, stored: StoredBlock, rawLen: number): void {
    this.offsetLow.push(lowWord(offset));
    this.offsetHigh.push(highWord(offset));
    this.storedLen.push(stored.bytes.length);
    this.rawLen.push(rawLen);
    this.crc.push(stored.crc);
  }

  all(): Column[] {
    return [this.offsetLow, this.offsetHigh, this.storedLen, this.rawLen, this.crc];
  }
}

/** Two columns that hold one LSN per row. */
class LsnColumns {
  readonly low = new Column();
  readonly high = new Column();

  push(lsn: number): void {
    this.low.push(lowWord(lsn));
    this.high.push(highWord(lsn));
  }

  all(): Column[] {
    return [this.low, this.high];
  }
}

export class LayerWriter {
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #path: string;
  readonly #kind: number;
  readonly #startLsn: number;
  readonly #endLsn: number;
  /** Whether what comes from now on is compressed. That takes most of the time. */
  compresses = true;
  #file: DiskFile | null;
  #offset = HEADER_BYTES;

  readonly #objects = { kindD: new Column(), a: new Column(), b: new Column(), c: new Column() };
  readonly #objectFirstKey = new Column();
  #objectFirstLsn: number[] = [];
  #object: ObjectId | null = null;
  #firstKey: Key | null = null;
  readonly #keyBlock = new Column();
  readonly #keyFirstEntry = new Column();
  #lastLsn = 0;
  #entryCount = 0;

  readonly #data = new HandleColumns();
  readonly #dataFirstEntry = new Column();
  readonly #dataFirstLsn = new LsnColumns();

  /** The data block being filled: its values, and a column per field of its entries. */
  #values = new Uint8Array(2 * DATA_BLOCK_BYTES);
  /** The same block in the form that is compressed. */
  #raw = new Uint8Array(RAW_BYTES);
  #valuesLen = 0;
  #blockEntries = 0;
  readonly #blockLsnLow = new Uint32Array(MAX_ENTRIES_PER_BLOCK);
  readonly #blockLsnHigh = new Uint32Array(MAX_ENTRIES_PER_BLOCK);
  readonly #blockValueEnd = new Uint32Array(MAX_ENTRIES_PER_BLOCK);
  readonly #blockTag = new Uint8Array(MAX_ENTRIES_PER_BLOCK);
  readonly #blockFlags = new Uint8Array(MAX_ENTRIES_PER_BLOCK);

  /** The end of the file that has not been written yet. */
  readonly #unwritten = new Uint8Array(WRITE_BYTES);
  #unwrittenLen = 0;

  /**
   * Starts the file `path`, in `directory`, for versions with startLsn < lsn ≤ endLsn.
   *
   * @throws {ZenithError} `disk_full`, `io`
   */
  constructor(disk: Disk, directory: string, path: string, kind: number, startLsn: number, endLsn: number) {
    this.#disk = disk;
    this.#directory = directory;
    this.#path = path;
    this.#kind = kind;
    this.#startLsn = startLsn;
    this.#endLsn = endLsn;
    try {
      this.#file = disk.openSync(path + TEMPORARY_SUFFIX, "create");
    } catch (error) {
      throw ioError("create layer", path, error);
    }
  }

  /**
   * Starts the next key, which must sort after the previous one. At least one {@link add} must
   * follow.
   */
  startKey(object: ObjectId, block: number): void {
    if (this.#object === null || compareObjects(this.#object, object) !== 0) {
      assert(
        this.#object === null || compareObjects(this.#object, object) < 0,
        "objects of a layer come in ascending order",
      );
      this.#object = object;
      this.#objects.kindD.push(object.kind | (object.d << 8));
      this.#objects.a.push(object.a);
      this.#objects.b.push(object.b);
      this.#objects.c.push(object.c);
      this.#objectFirstKey.push(this.#keyBlock.length);
      this.#objectFirstLsn.push(Infinity);
    } else {
      assert(this.#keyBlock.last() < block, "blocks of an object come in ascending order");
    }
    assert(
      this.#keyFirstEntry.length === 0 || this.#keyFirstEntry.last() < this.#entryCount,
      "every key of a layer has versions",
    );
    this.#firstKey ??= { object, block };
    this.#keyBlock.push(block);
    this.#keyFirstEntry.push(this.#entryCount);
    this.#lastLsn = this.#startLsn;
  }

  /**
   * Adds the next newer version of the current key.
   *
   * @throws {ZenithError} `disk_full`, `io`
   */
  add(lsn: number, bytes: Uint8Array, off: number, len: number, tag: number, flags: number): void {
    assert(
      lsn > this.#startLsn && lsn >= this.#lastLsn && lsn <= this.#endLsn,
      "versions of a key ascend within the layer's LSN range",
    );
    assert(len <= MAX_BLOCK_BYTES / 2, "a value fits a block");
    this.#lastLsn = lsn;
    const object = this.#objectFirstLsn.length - 1;
    if (lsn < this.#objectFirstLsn[object]) this.#objectFirstLsn[object] = lsn;
    const entry = this.#blockEntries;
    if (entry === 0) {
      this.#dataFirstEntry.push(this.#entryCount);
      this.#dataFirstLsn.push(lsn);
    }
    this.#addValue(bytes, off, len);
    this.#blockLsnLow[entry] = lowWord(lsn);
    this.#blockLsnHigh[entry] = highWord(lsn);
    this.#blockValueEnd[entry] = this.#valuesLen;
    this.#blockTag[entry] = tag;
    this.#blockFlags[entry] = flags;
    this.#blockEntries = entry + 1;
    this.#entryCount++;
    if (this.#valuesLen + ENTRY_BYTES * this.#blockEntries >= DATA_BLOCK_BYTES) this.#writeData();
  }

  /** The current length of the file. What is not compressed yet counts with its full length. */
  get sizeBytes(): number {
    return this.#offset + this.#valuesLen;
  }

  /**
   * Completes the file, makes it durable and gives it its name.
   *
   * @throws {ZenithError} `disk_full`, `io`: the file does not exist then
   */
  finish(starts: StartBlocks | null): WrittenLayer {
    const written = this.#writeRest(starts);
    const file = this.#completeFile();
    try {
      file.fsyncSync();
      this.#file = null;
      file.closeSync();
      this.#disk.renameSync(this.#path + TEMPORARY_SUFFIX, this.#path);
      this.#disk.fsyncDirSync(this.#directory);
    } catch (error) {
      throw error instanceof ZenithError ? error : ioError("complete layer", this.#path, error);
    }
    return written;
  }

  /** Like {@link finish}, but nobody on this thread waits for the syncs. */
  async finishInBackground(starts: StartBlocks | null): Promise<WrittenLayer> {
    const written = this.#writeRest(starts);
    const file = this.#completeFile();
    try {
      await file.fsync();
      this.#file = null;
      file.closeSync();
      this.#disk.renameSync(this.#path + TEMPORARY_SUFFIX, this.#path);
      await this.#disk.fsyncDir(this.#directory);
    } catch (error) {
      throw error instanceof ZenithError ? error : ioError("complete layer", this.#path, error);
    }
    return written;
  }

  #completeFile(): DiskFile {
    assert(this.#file !== null, "a layer is written while its file is open");
    return this.#file;
  }

  #writeRest(starts: StartBlocks | null): WrittenLayer {
    if (this.#blockEntries > 0) this.#writeData();
    const index = this.#writeIndex();
    const startHandles = new HandleColumns();
    const startFirst = new LsnColumns();
    const startLast = new LsnColumns();
    for (const { first, last, distances } of starts ?? []) {
      this.#writeBlock(distances, startHandles);
      startFirst.push(first);
      startLast.push(last);
    }
    const objectFirstLsn = new LsnColumns();
    for (const lsn of this.#objectFirstLsn) objectFirstLsn.push(lsn);
    const columns: Column[] = [
      ...Object.values(this.#objects),
      this.#objectFirstKey,
      ...objectFirstLsn.all(),
      ...this.#data.all(),
      this.#dataFirstEntry,
      ...this.#dataFirstLsn.all(),
      ...index.handles.all(),
      index.firstKey,
      index.firstBlock,
      ...startHandles.all(),
      ...startFirst.all(),
      ...startLast.all(),
    ];
    let words = HEAD_FIXED_WORDS;
    for (const column of columns) words += column.length;
    const head = new Uint32Array(words);
    head[HEAD_OBJECTS] = this.#objectFirstKey.length;
    head[HEAD_KEYS] = this.#keyBlock.length;
    head[HEAD_ENTRIES] = this.#entryCount;
    head[HEAD_DATA_BLOCKS] = this.#dataFirstEntry.length;
    head[HEAD_INDEX_BLOCKS] = index.firstKey.length;
    head[HEAD_START_BLOCKS] = startHandles.storedLen.length;
    let at = HEAD_FIXED_WORDS;
    for (const column of columns) {
      head.set(column.words(), at);
      at += column.length;
    }
    const headHandle = new HandleColumns();
    this.#writeBlock(new Uint8Array(head.buffer), headHandle);
    return this.#writeEnds(headHandle);
  }

  /** Aborts: removes the unfinished file as far as the disk allows. */
  abort(): void {
    this.#file?.closeSync();
    this.#file = null;
    try {
      this.#disk.unlinkSync(this.#path + TEMPORARY_SUFFIX);
    } catch {
      // The next start removes a left-over temporary file. Report the failure that led here
      // instead.
    }
  }

  #addValue(bytes: Uint8Array, off: number, len: number): void {
    const at = this.#valuesLen;
    if (at + len > this.#values.length) {
      const values = new Uint8Array(Math.max(2 * this.#values.length, at + len));
      values.set(this.#values.subarray(0, at));
      this.#values = values;
    }
    const values = this.#values;
    if (len > LOOP_COPY) values.set(bytes.subarray(off, off + len), at);
    else copyShort(bytes, off, len, values, at);
    this.#valuesLen = at + len;
  }

  #writeData(): void {
    const count = this.#blockEntries;
    const rawLen = 4 + ENTRY_BYTES * count + this.#valuesLen;
    if (rawLen > this.#raw.length) this.#raw = new Uint8Array(rawLen);
    const raw = this.#raw;
    const words = new Uint32Array(raw.buffer, 0, 1 + 3 * count);
    words[0] = count;
    words.set(this.#blockLsnLow.subarray(0, count), 1);
    words.set(this.#blockLsnHigh.subarray(0, count), 1 + count);
    words.set(this.#blockValueEnd.subarray(0, count), 1 + 2 * count);
    raw.set(this.#blockTag.subarray(0, count), 4 + 12 * count);
    raw.set(this.#blockFlags.subarray(0, count), 4 + 13 * count);
    raw.set(this.#values.subarray(0, this.#valuesLen), 4 + ENTRY_BYTES * count);
    this.#writeBlock(raw.subarray(0, rawLen), this.#data);
    this.#valuesLen = 0;
    this.#blockEntries = 0;
    // A large value is rare, so the room for it is not kept.
    if (this.#values.length > 2 * DATA_BLOCK_BYTES) this.#values = new Uint8Array(2 * DATA_BLOCK_BYTES);
    if (raw.length > RAW_BYTES) this.#raw = new Uint8Array(RAW_BYTES);
  }

  #writeIndex(): { handles: HandleColumns; firstKey: Column; firstBlock: Column } {
    const handles = new HandleColumns();
    const firstKey = new Column();
    const firstBlock = new Column();
    const keys = this.#keyBlock.length;
    this.#keyFirstEntry.push(this.#entryCount);
    for (let key = 0; key < keys; key += KEYS_PER_INDEX_BLOCK) {
      const count = Math.min(KEYS_PER_INDEX_BLOCK, keys - key);
      const words = new Uint32Array(indexBlockBytes(count) / 4);
      words.set(this.#keyBlock.words(key, key + count), 0);
      words.set(this.#keyFirstEntry.words(key, key + count + 1), count);
      firstKey.push(key);
      firstBlock.push(words[0]);
      this.#writeBlock(new Uint8Array(words.buffer), handles);
    }
    return { handles, firstKey, firstBlock };
  }

  #writeBlock(raw: Uint8Array, handles: HandleColumns): void {
    const stored = this.compresses ? storeBlock(raw) : storeRaw(raw);
    const { bytes } = stored;
    handles.push(this.#offset, stored, raw.length);
    if (this.#unwrittenLen + bytes.length > WRITE_BYTES) this.#writeOut();
    if (bytes.length > WRITE_BYTES) {
      this.#write(bytes, 0, bytes.length, this.#offset);
    } else {
      this.#unwritten.set(bytes, this.#unwrittenLen);
      this.#unwrittenLen += bytes.length;
    }
    this.#offset += bytes.length;
  }

  #writeOut(): void {
    const len = this.#unwrittenLen;
    if (len > 0) this.#write(this.#unwritten, 0, len, this.#offset - len);
    this.#unwrittenLen = 0;
  }

  #write(bytes: Uint8Array, off: number, len: number, position: number): void {
    assert(this.#file !== null, "a layer is written while its file is open");
    try {
      this.#file.writeSync(bytes, off, len, position);
    } catch (error) {
      throw ioError("write layer", this.#path, error);
    }
  }

  #writeEnds(head: HandleColumns): WrittenLayer {
    const header = new Uint8Array(HEADER_BYTES);
    header.set(LAYER_MAGIC);
    const headerView = new DataView(header.buffer);
    headerView.setUint32(HEADER_VERSION, LAYER_VERSION, true);
    headerView.setUint32(HEADER_KIND, this.#kind, true);
    this.#write(header, 0, header.length, 0);

    const footer = new Uint8Array(FOOTER_BYTES);
    const view = new DataView(footer.buffer);
    const fileSize = this.#offset + FOOTER_BYTES;
    setU64(view, FOOTER_HEAD_OFFSET, this.#offset - head.storedLen.last());
    view.setUint32(FOOTER_HEAD_STORED, head.storedLen.last(), true);
    view.setUint32(FOOTER_HEAD_RAW, head.rawLen.last(), true);
    view.setUint32(FOOTER_HEAD_CRC, head.crc.last(), true);
    view.setUint32(FOOTER_KIND, this.#kind, true);
    setU64(view, FOOTER_START_LSN, this.#startLsn);
    setU64(view, FOOTER_END_LSN, this.#endLsn);
    setU64(view, FOOTER_FILE_SIZE, fileSize);
    view.setUint32(FOOTER_VERSION, LAYER_VERSION, true);
    const footerCrc = crc32c(footer, 0, FOOTER_CRC);
    view.setUint32(FOOTER_CRC, footerCrc, true);
    footer.set(LAYER_MAGIC, FOOTER_MAGIC);
    this.#writeOut();
    this.#write(footer, 0, footer.length, this.#offset);

    const first = this.#firstKey;
    const object = this.#object;
    const keys = first === null || object === null
      ? null
      : { first, last: { object, block: this.#keyBlock.last() } };
    return { fileSize, footerCrc, keys };
  }
}

function copyShort(from: Uint8Array, off: number, len: number, to: Uint8Array, toOff: number): void {
  const end = off + len;
  const stepsEnd = end - (len % COPY_STEP);
  let at = toOff;
  while (off < stepsEnd) {
    to[at] = from[off];
    to[at + 1] = from[off + 1];
    to[at + 2] = from[off + 2];
    to[at + 3] = from[off + 3];
    to[at + 4] = from[off + 4];
    to[at + 5] = from[off + 5];
    to[at + 6] = from[off + 6];
    to[at + 7] = from[off + 7];
    off += COPY_STEP;
    at += COPY_STEP;
  }
  while (off < end) to[at++] = from[off++];
}

function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, lowWord(value), true);
  view.setUint32(at + 4, highWord(value), true);
}
