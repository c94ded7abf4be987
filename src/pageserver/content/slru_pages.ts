/** Stores and reads the pages of SLRUs. */
import { assert } from "../../common/assert.ts";
import { SIZE_BLOCK, type TimelineStore, ValueChain } from "../../pagestore/mod.ts";
import { BLCKSZ } from "../../postgres/cluster/page_layout.ts";
import { clogByte, clogShift, SLRU_PAGES_PER_SEGMENT, slruSegment } from "../../postgres/cluster/slru.ts";
import { KIND_SLRU_SEGMENT, slruSegmentKey, TAG_BYTES, TAG_PATCH, TAG_XACT_STATUS } from "./keys.ts";

/**
 * After this many small changes to one page, a whole image is stored, so that reading a page never
 * walks a long chain. At one change per transaction, that is 8 bytes of image per transaction.
 */
const CHANGES_PER_IMAGE = 1024;

/**
 * Changes are counted for this many pages, and for at most as many again. The count of any other
 * page starts anew.
 */
export const COUNTED_PAGES = 1024;

const NO_BYTES = new Uint8Array(0);

/** Bytes to write into one SLRU page. Reused for every patch. */
export class SlruPatch {
  #bytes = new Uint8Array(64);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  clear(): void {
    this.#length = 0;
  }

  u8(at: number, value: number): void {
    this.#header(at, 1);
    this.#view.setUint8(this.#length, value);
    this.#length += 1;
  }

  u16(at: number, value: number): void {
    this.#header(at, 2);
    this.#view.setUint16(this.#length, value, true);
    this.#length += 2;
  }

  u32(at: number, value: number): void {
    this.#header(at, 4);
    this.#view.setUint32(this.#length, value, true);
    this.#length += 4;
  }

  i64(at: number, value: number): void {
    this.#header(at, 8);
    this.#view.setBigInt64(this.#length, BigInt(value), true);
    this.#length += 8;
  }

  /** The bytes to store. */
  bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  #header(at: number, length: number): void {
    assert(at + length <= BLCKSZ, "an SLRU change stays inside its page");
    if (this.#length + 4 + length > this.#bytes.length) {
      const grown = new Uint8Array(this.#bytes.length * 2);
      grown.set(this.#bytes);
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    this.#view.setUint16(this.#length, at, true);
    this.#view.setUint16(this.#length + 2, length, true);
    this.#length += 4;
  }
}

/**
 * Pages of the SLRUs (pg_xact, pg_multixact/*, pg_commit_ts). Each segment file is one object of
 * the page store.
 */
export class SlruPages {
  readonly #store: TimelineStore;
  readonly #chain = new ValueChain();
  /** Changes since the page's last image, by SLRU and page. */
  #changes = new Map<string, number>();
  /** The same for pages that have not changed since {@link #changes} was last full. */
  #olderChanges = new Map<string, number>();
  readonly #page = new Uint8Array(BLCKSZ);

  constructor(store: TimelineStore) {
    this.#store = store;
  }

  #slot(slru: number, page: number): number {
    return this.#store.slot(slruSegmentKey(slru, slruSegment(page)));
  }

  /** Returns the number of pages in the segment at `lsn`. 0 when it does not exist. */
  segmentPages(slot: number, lsn: number): number {
    const chain = this.#chain;
    chain.clear();
    this.#store.collect(slot, SIZE_BLOCK, lsn, chain);
    return chain.count === 0 || chain.len[0] === 0 ? 0 : chain.bytes[0][chain.off[0]];
  }

  /** Whether the page exists at `lsn`. */
  exists(slru: number, page: number, lsn: number): boolean {
    return page % SLRU_PAGES_PER_SEGMENT < this.segmentPages(this.#slot(slru, page), lsn);
  }

  /** Makes the page exist from `lsn` on, all zeros. */
  zeroPage(slru: number, page: number, lsn: number): void {
    this.#forget(`${slru}/${page}`);
    this.#put(slru, page, lsn, NO_BYTES, TAG_BYTES, true);
  }

  /** Stores a page's content from an imported cluster. */
  putImage(slru: number, page: number, lsn: number, image: Uint8Array): void {
    this.#put(slru, page, lsn, image, TAG_BYTES, true);
  }

  #put(slru: number, page: number, lsn: number, value: Uint8Array, tag: number, willInit: boolean): void {
    const slot = this.#slot(slru, page);
    const block = page % SLRU_PAGES_PER_SEGMENT;
    this.#store.putValue(slot, block, lsn, value, tag, willInit);
    if (willInit && block >= this.segmentPages(slot, lsn)) {
      this.#store.putValue(slot, SIZE_BLOCK, lsn, Uint8Array.of(block + 1), TAG_BYTES, true);
    }
  }

  /** Writes the bytes of `patch` into the page. */
  patch(slru: number, page: number, lsn: number, patch: SlruPatch): void {
    this.#change(slru, page, lsn, patch.bytes(), TAG_PATCH);
  }

  /** Sets the status of transactions `xids`, which share a page of pg_xact. */
  setXactStatus(slru: number, page: number, lsn: number, status: number, xids: number[]): void {
    const value = new Uint8Array(4 + 4 * xids.length);
    const view = new DataView(value.buffer);
    view.setUint32(0, status, true);
    for (let i = 0; i < xids.length; i++) view.setUint32(4 + 4 * i, xids[i], true);
    this.#change(slru, page, lsn, value, TAG_XACT_STATUS);
  }

  #change(slru: number, page: number, lsn: number, value: Uint8Array, tag: number): void {
    this.#put(slru, page, lsn, value, tag, false);
    const key = `${slru}/${page}`;
    const changes = (this.#changes.get(key) ?? this.#olderChanges.get(key) ?? 0) + 1;
    if (changes < CHANGES_PER_IMAGE) {
      this.#count(key, changes);
      return;
    }
    this.#forget(key);
    this.read(slru, page, lsn, this.#page, 0);
    this.putImage(slru, page, lsn, this.#page);
  }

  #count(key: string, changes: number): void {
    this.#changes.set(key, changes);
    if (this.#changes.size < COUNTED_PAGES) return;
    // Pages change near the end, so those that remain in the older map are rarely needed again.
    this.#olderChanges = this.#changes;
    this.#changes = new Map();
  }

  #forget(key: string): void {
    this.#changes.delete(key);
    this.#olderChanges.delete(key);
  }

  /** How many pages have a count of changes. */
  get countedPages(): number {
    return this.#changes.size + this.#olderChanges.size;
  }

  /** Removes a segment from `lsn` on. */
  removeSegment(slru: number, segment: number, lsn: number): void {
    const slot = this.#store.slot(slruSegmentKey(slru, segment));
    const pages = this.segmentPages(slot, lsn);
    if (pages === 0) return;
    for (let block = 0; block < pages; block++) {
      this.#store.putValue(slot, block, lsn, NO_BYTES, TAG_BYTES, true);
    }
    this.#store.putValue(slot, SIZE_BLOCK, lsn, NO_BYTES, TAG_BYTES, true);
  }

  /** The segments of one SLRU that exist at `lsn`, with their lengths in pages. */
  segments(slru: number, lsn: number): { segment: number; pages: number }[] {
    const found: { segment: number; pages: number }[] = [];
    for (const key of this.#store.objects({ kind: KIND_SLRU_SEGMENT, a: slru }, lsn)) {
      const pages = this.segmentPages(this.#store.slot(key), lsn);
      if (pages > 0) found.push({ segment: key.b, pages });
    }
    return found;
  }

  /**
   * Rebuilds the page as of `lsn` into `out`. A page for which nothing was ever stored is all
   * zeros.
   */
  read(slru: number, page: number, lsn: number, out: Uint8Array, outOff: number): void {
    const chain = this.#chain;
    chain.clear();
    this.#store.collect(this.#slot(slru, page), page % SLRU_PAGES_PER_SEGMENT, lsn, chain);
    out.fill(0, outOff, outOff + BLCKSZ);
    for (let i = chain.count - 1; i >= 0; i--) {
      const bytes = chain.bytes[i];
      const off = chain.off[i];
      const len = chain.len[i];
      switch (chain.tag[i]) {
        case TAG_BYTES:
          out.fill(0, outOff, outOff + BLCKSZ);
          out.set(bytes.subarray(off, off + len), outOff);
          break;
        case TAG_PATCH:
          applyPatch(bytes, off, len, out, outOff);
          break;
        case TAG_XACT_STATUS:
          applyXactStatus(bytes, off, len, out, outOff);
          break;
        default:
          assert(false, "an SLRU page has images, patches and statuses only");
      }
    }
  }
}

function applyPatch(bytes: Uint8Array, off: number, len: number, page: Uint8Array, pageOff: number): void {
  for (let p = off; p < off + len;) {
    const at = bytes[p] | (bytes[p + 1] << 8);
    const length = bytes[p + 2] | (bytes[p + 3] << 8);
    assert(at + length <= BLCKSZ && p + 4 + length <= off + len, "a stored SLRU patch stays inside its page");
    for (let i = 0; i < length; i++) page[pageOff + at + i] = bytes[p + 4 + i];
    p += 4 + length;
  }
}

function applyXactStatus(
  bytes: Uint8Array,
  off: number,
  len: number,
  page: Uint8Array,
  pageOff: number,
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset + off, len);
  const status = view.getUint32(0, true);
  for (let p = 4; p < len; p += 4) {
    const xid = view.getUint32(p, true);
    const at = pageOff + clogByte(xid);
    const shift = clogShift(xid);
    page[at] = (page[at] & ~(3 << shift)) | (status << shift);
  }
}
