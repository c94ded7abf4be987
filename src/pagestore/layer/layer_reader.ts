/**
 * Reads a layer file. An open layer keeps only its name and bounds in memory. Its head, index and
 * data are in the shared {@link BlockCache} and are read when needed. Checksums are verified each
 * time blocks are read from the disk.
 */
import { assert } from "../../common/assert.ts";
import { crc32c } from "../../common/crc32c.ts";
import type { Disk } from "../../common/disk.ts";
import { ioError, ZenithError } from "../../common/errors.ts";
import { AbsentBytes } from "./absent_bytes.ts";
import type { BlockCache } from "./block_cache.ts";
import {
  corrupt,
  DataBlock,
  decompressBlock,
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
  getU64,
  type Handles,
  HEADER_BYTES,
  HEADER_KIND,
  HEADER_VERSION,
  hex,
  IndexBlock,
  indexBlockBytes,
  joinWords,
  LAYER_MAGIC,
  LAYER_VERSION,
  LayerHead,
} from "./layer_format.ts";
import type { LayerFiles } from "./layer_files.ts";
import type { ObjectTable } from "../value/object_id.ts";
import { findStart, forEachStart, type FoundStart, lastAtOrBelow } from "../value/record_starts.ts";
import { VALUE_WILL_INIT, type ValueChain } from "../value/value_chain.ts";

/** A layer's description in the metadata. */
export interface LayerInfo {
  readonly kind: number;
  /** The layer's versions are above startLsn … */
  readonly startLsn: number;
  /** … and at or below endLsn. */
  readonly endLsn: number;
  readonly fileSize: number;
  readonly footerCrc: number;
}

/** The head as it is cached: its objects are slots, in ascending order for binary search. */
class OpenHead {
  readonly head: LayerHead;
  readonly slots: Int32Array;
  /** The row of the head's object table for each slot. */
  readonly rows: Int32Array;

  constructor(head: LayerHead, objects: ObjectTable) {
    this.head = head;
    const slots = new Int32Array(head.objectCount);
    for (let row = 0; row < slots.length; row++) {
      const kindD = head.objectKindD[row];
      slots[row] = objects.slot(
        kindD & 0xff,
        head.objectA[row],
        head.objectB[row],
        head.objectC[row],
        kindD >>> 8,
      );
    }
    this.rows = Int32Array.from(slots.keys()).sort((x, y) => slots[x] - slots[y]);
    this.slots = this.rows.map((row) => slots[row]);
  }
}

// Block numbers in the cache: the head, then data, index and record start blocks interleaved.
const HEAD_BLOCK = 0;
const FIRST_BLOCK = 1;
const BLOCK_KINDS = 3;
const DATA = 0;
const INDEX = 1;
const STARTS = 2;

class StartsBlock {
  readonly distances: Uint8Array;

  constructor(distances: Uint8Array) {
    this.distances = distances;
  }
}

export class LayerReader {
  readonly path: string;
  readonly info: LayerInfo;
  readonly #files: LayerFiles;
  readonly #cache: BlockCache;
  readonly #objects: ObjectTable;
  readonly #id: number;

  constructor(
    files: LayerFiles,
    path: string,
    info: LayerInfo,
    cache: BlockCache,
    objects: ObjectTable,
  ) {
    this.#files = files;
    this.path = path;
    this.info = info;
    this.#cache = cache;
    this.#objects = objects;
    this.#id = cache.newLayerId();
  }

  /** How much of it is in the cache, of what {@link BlockCache.bytesByLayer} has found. */
  cachedBytes(found: ReadonlyMap<number, number>): number {
    return found.get(this.#id) ?? 0;
  }

  /**
   * Checks that the file exists, is complete, and is the expected one.
   *
   * @throws {ZenithError} `corrupt_data`, `io`
   */
  verify(): void {
    this.#readFooter();
    const header = this.#read(0, HEADER_BYTES);
    const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
    this.#expectMagic(header, 0, 0);
    this.#expect("version in the header", view.getUint32(HEADER_VERSION, true), LAYER_VERSION);
    this.#expect("kind in the header", view.getUint32(HEADER_KIND, true), this.info.kind);
  }

  /**
   * Adds the layer's versions of a block at or below `lsn` to `chain`, newest first, until the
   * chain is complete or has a version at or below `floor`.
   *
   * @throws {ZenithError} `corrupt_data`, `io`
   */
  collect(slot: number, block: number, lsn: number, floor: number, chain: ValueChain): void {
    const open = this.#head();
    const at = lastAtOrBelow(open.slots, slot);
    if (at < 0 || open.slots[at] !== slot) return;
    const head = open.head;
    const row = open.rows[at];
    const indexNo = indexBlockOf(head, row, block);
    const firstKey = head.indexFirstKey[indexNo];
    const index = this.#index(head, indexNo);
    const low = Math.max(head.objectFirstKey[row], firstKey) - firstKey;
    const high = Math.min(head.objectEndKey(row), head.indexEndKey(indexNo)) - firstKey;
    const key = findBlock(index.blocks, low, high, block);
    if (key < 0) return;
    this.#collectEntries(head, index.firstEntry[key], index.firstEntry[key + 1], lsn, floor, chain);
  }

  /** Collects from entries [firstEntry, endEntry), which belong to one key and ascend by LSN. */
  #collectEntries(
    head: LayerHead,
    firstEntry: number,
    endEntry: number,
    lsn: number,
    floor: number,
    chain: ValueChain,
  ): void {
    this.checkEntryRange(firstEntry, endEntry, head);
    let end = endEntry;
    while (end > firstEntry) {
      const dataNo = lastAtOrBelow(head.dataFirstEntry, end - 1);
      const blockFirst = head.dataFirstEntry[dataNo];
      // If a block starts with this key, its lowest LSN is known without reading it.
      if (blockFirst >= firstEntry && head.dataFirstLsn(dataNo) > lsn) {
        end = blockFirst;
        continue;
      }
      const data = this.#data(head, dataNo);
      const low = Math.max(firstEntry, blockFirst) - blockFirst;
      for (let i = lastEntryAtOrBelow(data, low, end - blockFirst, lsn); i >= low; i--) {
        const willInit = (data.flags[i] & VALUE_WILL_INIT) !== 0;
        const found = data.lsn(i);
        chain.push(found, data.tag[i], data.bytes, data.valueOff(i), data.valueLen(i), willInit);
        if (willInit || found <= floor) return;
      }
      end = blockFirst;
    }
  }

  /** Calls `visit` for every object, with the LSN of its first version here. */
  forEachObject(visit: (slot: number, firstLsn: number) => void): void {
    const { head, slots, rows } = this.#head();
    for (let i = 0; i < slots.length; i++) visit(slots[i], head.objectFirstLsn(rows[i]));
  }

  keyCount(): number {
    return this.#head().head.keyCount;
  }

  /** Calls `visit` for every key. @throws {ZenithError} `corrupt_data`, `io` */
  forEachKey(visit: (slot: number, block: number) => void): void {
    const { head, slots, rows } = this.#head();
    const slotOfRow = new Int32Array(head.objectCount);
    for (let i = 0; i < rows.length; i++) slotOfRow[rows[i]] = slots[i];
    let row = 0;
    for (let no = 0; no < head.index.count; no++) {
      const { blocks } = this.#index(head, no);
      const first = head.indexFirstKey[no];
      for (let i = 0; i < blocks.length; i++) {
        while (first + i >= head.objectEndKey(row)) row++;
        visit(slotOfRow[row], blocks[i]);
      }
    }
  }

  /**
   * @returns false when every record start in this layer is above `lsn`; otherwise `found` is
   *   filled
   */
  findStart(lsn: number, found: FoundStart): boolean {
    const head = this.#head().head;
    let block = head.starts.count - 1;
    while (block >= 0 && head.startsFirst(block) > lsn) block--;
    if (block < 0) return false;
    const { distances } = this.#starts(head, block);
    findStart(head.startsFirst(block), distances, lsn, found);
    if (found.prev < 0 && block > 0) found.prev = head.startsLast(block - 1);
    return true;
  }

  /** Returns the last record start in this layer; -1 if there is none. */
  lastStart(): number {
    const head = this.#head().head;
    return head.starts.count === 0 ? -1 : head.startsLast(head.starts.count - 1);
  }

  /**
   * Calls `visit` with every record start in this layer, ascending. @throws {ZenithError}
   * `corrupt_data`, `io`
   */
  forEachStart(visit: (start: number) => void): void {
    const { count } = this.#head().head.starts;
    for (let no = 0; no < count; no++) this.forEachStartIn(no, visit);
  }

  /** Like {@link forEachStart}, for one block of record starts. */
  forEachStartIn(no: number, visit: (start: number) => void): void {
    const head = this.#head().head;
    forEachStart(head.startsFirst(no), this.#block(head.starts, no), (start) => {
      visit(start);
      return true;
    });
  }

  /** Reads the head, for a reader of the whole file. @throws {ZenithError} `corrupt_data`, `io` */
  readHead(): LayerHead {
    return this.#head().head;
  }

  /** Reads a data block without caching it. @throws {ZenithError} `corrupt_data`, `io` */
  readDataBlock(head: LayerHead, no: number): DataBlock {
    return this.#parseData(head, no);
  }

  /** Reads an index block without caching it. @throws {ZenithError} `corrupt_data`, `io` */
  readIndexBlock(head: LayerHead, no: number): IndexBlock {
    return this.#parseIndex(head, no);
  }

  /** @throws {ZenithError} `corrupt_data` unless [firstEntry, endEntry) can be one key's entries */
  checkEntryRange(firstEntry: number, endEntry: number, head: LayerHead): void {
    if (firstEntry >= endEntry || endEntry > head.entryCount) {
      throw corrupt(
        `layer ${this.path}: a key's entries are ${firstEntry}..${endEntry} of ${head.entryCount}`,
      );
    }
  }

  close(): void {
    this.#cache.closeFile(this.path);
  }

  #head(): OpenHead {
    const cached = this.#cache.get(this.#id, HEAD_BLOCK);
    if (cached !== undefined) {
      assert(cached instanceof OpenHead, "the head's place in the cache holds a head");
      return cached;
    }
    const footer = this.#readFooter();
    const offset = joinWords(
      footer.getUint32(FOOTER_HEAD_OFFSET, true),
      footer.getUint32(FOOTER_HEAD_OFFSET + 4, true),
    );
    const where = () => this.#where(offset);
    const raw = this.#decompressed(
      offset,
      footer.getUint32(FOOTER_HEAD_STORED, true),
      footer.getUint32(FOOTER_HEAD_RAW, true),
      footer.getUint32(FOOTER_HEAD_CRC, true),
    );
    const open = new OpenHead(new LayerHead(raw, where), this.#objects);
    this.#cache.put(this.#id, HEAD_BLOCK, open, raw.length + 8 * open.slots.length);
    return open;
  }

  #data(head: LayerHead, no: number): DataBlock {
    const cacheNo = FIRST_BLOCK + BLOCK_KINDS * no + DATA;
    const cached = this.#cache.get(this.#id, cacheNo);
    if (cached !== undefined) {
      assert(cached instanceof DataBlock, "a data block's place in the cache holds a data block");
      return cached;
    }
    const block = this.#parseData(head, no);
    this.#cache.putData(this.#id, cacheNo, block, block.bytes.length);
    return block;
  }

  #parseData(head: LayerHead, no: number): DataBlock {
    const block = new DataBlock(this.#block(head.data, no), () => this.#where(head.data.offset(no)));
    if (block.count !== head.dataEndEntry(no) - head.dataFirstEntry[no]) {
      throw corrupt(
        `the data block at ${this.#where(head.data.offset(no))} has ${block.count} entries, ` +
          `expected ${head.dataEndEntry(no) - head.dataFirstEntry[no]}`,
      );
    }
    return block;
  }

  #index(head: LayerHead, no: number): IndexBlock {
    const cacheNo = FIRST_BLOCK + BLOCK_KINDS * no + INDEX;
    const cached = this.#cache.get(this.#id, cacheNo);
    if (cached !== undefined) {
      assert(cached instanceof IndexBlock, "an index block's place in the cache holds an index block");
      return cached;
    }
    const block = this.#parseIndex(head, no);
    this.#cache.put(this.#id, cacheNo, block, indexBlockBytes(block.count));
    return block;
  }

  #parseIndex(head: LayerHead, no: number): IndexBlock {
    const raw = this.#block(head.index, no);
    const keys = head.indexEndKey(no) - head.indexFirstKey[no];
    return new IndexBlock(raw, keys, () => this.#where(head.index.offset(no)));
  }

  #starts(head: LayerHead, no: number): StartsBlock {
    const cacheNo = FIRST_BLOCK + BLOCK_KINDS * no + STARTS;
    const cached = this.#cache.get(this.#id, cacheNo);
    if (cached !== undefined) {
      assert(cached instanceof StartsBlock, "a record start block's place in the cache holds one");
      return cached;
    }
    const block = new StartsBlock(this.#block(head.starts, no));
    this.#cache.put(this.#id, cacheNo, block, block.distances.length);
    return block;
  }

  #block(handles: Handles, no: number): Uint8Array {
    return this.#decompressed(handles.offset(no), handles.storedLen(no), handles.rawLen(no), handles.crc(no));
  }

  #decompressed(offset: number, storedLen: number, rawLen: number, crc: number): Uint8Array {
    const stored = this.#read(offset, storedLen);
    return this.#trusted(
      offset,
      storedLen,
      () => decompressBlock(stored, rawLen, crc, () => this.#where(offset)),
    );
  }

  /** Checks bytes that were read. If another copy of them may be right, that is to be fetched. */
  #trusted<T>(offset: number, len: number, check: () => T): T {
    try {
      return check();
    } catch (error) {
      if (error instanceof ZenithError && error.kind === "corrupt_data") {
        this.#cache.file(this.#files, this.path).distrust?.(offset, len, error);
      }
      throw error;
    }
  }

  #readFooter(): DataView {
    const at = this.info.fileSize - FOOTER_BYTES;
    if (at < HEADER_BYTES) {
      throw corrupt(`layer ${this.path}: ${this.info.fileSize} bytes are too few for a layer`);
    }
    return this.#trusted(at, FOOTER_BYTES, () => this.#checkedFooter(at));
  }

  #checkedFooter(at: number): DataView {
    const footer = this.#read(at, FOOTER_BYTES);
    const view = new DataView(footer.buffer, footer.byteOffset, footer.byteLength);
    this.#expectMagic(footer, FOOTER_MAGIC, at);
    const version = view.getUint32(FOOTER_VERSION, true);
    if (version !== LAYER_VERSION) {
      throw corrupt(`layer ${this.path} has format version ${version}, expected ${LAYER_VERSION}`);
    }
    const crc = crc32c(footer, 0, FOOTER_CRC);
    const stored = view.getUint32(FOOTER_CRC, true);
    if (crc !== stored) {
      throw corrupt(
        `checksum of the footer of layer ${this.path}: expected ${hex(stored)}, found ${hex(crc)}`,
      );
    }
    if (stored !== this.info.footerCrc) {
      throw corrupt(
        `layer ${this.path} is not the file that was written: footer checksum ${hex(stored)}, ` +
          `expected ${hex(this.info.footerCrc)}`,
      );
    }
    this.#expect("kind", view.getUint32(FOOTER_KIND, true), this.info.kind);
    this.#expect("start LSN", getU64(view, FOOTER_START_LSN), this.info.startLsn);
    this.#expect("end LSN", getU64(view, FOOTER_END_LSN), this.info.endLsn);
    this.#expect("file size", getU64(view, FOOTER_FILE_SIZE), this.info.fileSize);
    return view;
  }

  /** Checks the magic number at bytes[off..]. The bytes were read from `position`. */
  #expectMagic(bytes: Uint8Array, off: number, position: number): void {
    for (let i = 0; i < LAYER_MAGIC.length; i++) {
      if (bytes[off + i] !== LAYER_MAGIC[i]) {
        throw corrupt(`${this.path} is not a layer file: magic number expected at offset ${position + off}`);
      }
    }
  }

  #expect(what: string, found: number, expected: number): void {
    if (found !== expected) throw corrupt(`layer ${this.path}: ${what} is ${found}, expected ${expected}`);
  }

  /** @throws {ZenithError} `corrupt_data` when the file is too short */
  #read(offset: number, len: number): Uint8Array {
    if (offset + len > this.info.fileSize) {
      throw corrupt(
        `layer ${this.path}: ${len} bytes at offset ${offset} are beyond its end, ${this.info.fileSize}`,
      );
    }
    const bytes = new Uint8Array(len);
    let found: number;
    try {
      found = this.#cache.file(this.#files, this.path).readSync(bytes, 0, len, offset);
    } catch (error) {
      if (error instanceof AbsentBytes) throw error;
      throw ioError("read layer", this.path, error);
    }
    if (found !== len) {
      throw corrupt(`layer ${this.path}: expected ${len} bytes at offset ${offset}, found ${found}`);
    }
    return bytes;
  }

  #where(offset: number): string {
    return `offset ${offset} of layer ${this.path}`;
  }
}

/**
 * Reads a file's description of itself, for a reader without metadata. Call
 * {@link LayerReader.verify} afterwards.
 *
 * @throws {ZenithError} `corrupt_data` when the file is too short, `io`
 */
export function readLayerInfo(disk: Disk, path: string): LayerInfo {
  const footer = new Uint8Array(FOOTER_BYTES);
  let fileSize: number;
  try {
    const file = disk.openSync(path, "read");
    try {
      fileSize = file.sizeSync();
      if (fileSize >= FOOTER_BYTES) file.readSync(footer, 0, FOOTER_BYTES, fileSize - FOOTER_BYTES);
    } finally {
      file.closeSync();
    }
  } catch (error) {
    throw ioError("read layer", path, error);
  }
  if (fileSize < HEADER_BYTES + FOOTER_BYTES) {
    throw corrupt(`${path}: ${fileSize} bytes are too few for a layer`);
  }
  const view = new DataView(footer.buffer);
  return {
    kind: view.getUint32(FOOTER_KIND, true),
    startLsn: getU64(view, FOOTER_START_LSN),
    endLsn: getU64(view, FOOTER_END_LSN),
    fileSize,
    footerCrc: view.getUint32(FOOTER_CRC, true),
  };
}

/** Returns the index block that holds the key (object of `row`, block) if the layer has the key. */
function indexBlockOf(head: LayerHead, row: number, block: number): number {
  // Index blocks from `low` on start within this object, so their first block numbers ascend.
  let low = lastAtOrBelow(head.indexFirstKey, head.objectFirstKey[row]) + 1;
  let high = lastAtOrBelow(head.indexFirstKey, head.objectEndKey(row) - 1) + 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (head.indexFirstBlock[middle] <= block) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** Returns the index of `block` in blocks[low .. high), which ascend; -1 if it isn't there. */
function findBlock(blocks: Uint32Array, low: number, high: number, block: number): number {
  const end = high;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (blocks[middle] < block) low = middle + 1;
    else high = middle;
  }
  return low < end && blocks[low] === block ? low : -1;
}

/** Returns the last of entries [low, high) at or below `lsn`; low - 1 when all are above. */
function lastEntryAtOrBelow(data: DataBlock, low: number, high: number, lsn: number): number {
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (data.lsn(middle) <= lsn) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
