/**
 * Pages of a hash index in the workspace. Structs: src/include/access/hash.h; their initialisation:
 * src/backend/access/hash/hashpage.c, hashovfl.c, hashutil.c.
 */
import { RedoError } from "../page/errors.ts";
import { INVALID_BLOCK_NUMBER } from "../page/item_pointer.ts";
import { checkSpecial, pageInit, setPdLower, SIZE_OF_PAGE_HEADER } from "../page/page.ts";
import { BLCKSZ, PAGE, setU16, setU32, u16, u32, W8 } from "../page/workspace.ts";

// HashPageOpaqueData
const HASH_OPAQUE_SIZE = 16;
const HASH_OPAQUE = BLCKSZ - HASH_OPAQUE_SIZE;
const HASHO_PREVBLKNO = HASH_OPAQUE + 0;
const HASHO_NEXTBLKNO = HASH_OPAQUE + 4;
const HASHO_BUCKET = HASH_OPAQUE + 8;
const HASHO_FLAG = HASH_OPAQUE + 12;
const HASHO_PAGE_ID_AT = HASH_OPAQUE + 14;
const HASHO_PAGE_ID = 0xff80;

// hasho_flag: the page's type, then its state
export const LH_UNUSED_PAGE = 0;
export const LH_OVERFLOW_PAGE = 1 << 0;
export const LH_BUCKET_PAGE = 1 << 1;
export const LH_BITMAP_PAGE = 1 << 2;
export const LH_META_PAGE = 1 << 3;
export const LH_BUCKET_NEEDS_SPLIT_CLEANUP = 1 << 6;
export const LH_PAGE_HAS_DEAD_TUPLES = 1 << 7;
const LH_PAGE_TYPE = LH_OVERFLOW_PAGE | LH_BUCKET_PAGE | LH_BITMAP_PAGE | LH_META_PAGE;

export const INVALID_BUCKET = 0xffffffff;

/** Where PageGetContents points: HashMetaPageData or the bitmap starts there. */
const PAGE_CONTENTS = SIZE_OF_PAGE_HEADER;

// HashMetaPageData
const HASHM_MAGIC = PAGE_CONTENTS + 0;
const HASHM_VERSION = PAGE_CONTENTS + 4;
const HASHM_NTUPLES = PAGE_CONTENTS + 8;
const HASHM_FFACTOR = PAGE_CONTENTS + 16;
const HASHM_BSIZE = PAGE_CONTENTS + 18;
const HASHM_BMSIZE = PAGE_CONTENTS + 20;
const HASHM_BMSHIFT = PAGE_CONTENTS + 22;
export const HASHM_MAXBUCKET = PAGE_CONTENTS + 24;
export const HASHM_HIGHMASK = PAGE_CONTENTS + 28;
export const HASHM_LOWMASK = PAGE_CONTENTS + 32;
export const HASHM_OVFLPOINT = PAGE_CONTENTS + 36;
export const HASHM_FIRSTFREE = PAGE_CONTENTS + 40;
const HASHM_NMAPS = PAGE_CONTENTS + 44;
const HASHM_PROCID = PAGE_CONTENTS + 48;
const HASHM_SPARES = PAGE_CONTENTS + 52;
const HASH_MAX_SPLITPOINTS = 98;
const HASHM_MAPP = HASHM_SPARES + 4 * HASH_MAX_SPLITPOINTS;
const HASH_MAX_BITMAPS = 1024;
/** The struct is padded to the alignment of its double. */
const HASH_META_END = HASHM_MAPP + 4 * HASH_MAX_BITMAPS + 4;

const HASH_MAGIC = 0x6440640;
const HASH_VERSION = 4;
/** HashGetMaxBitmapSize: room between page header and special space. */
const MAX_BITMAP_SIZE = HASH_OPAQUE - PAGE_CONTENTS;
/**
 * The largest power of two that is not above {@link MAX_BITMAP_SIZE}, and its logarithm in bits.
 */
const BITMAP_SIZE = 4096;
const BITMAP_SHIFT = 15;

/** Splitpoint groups below this one have a single phase; this one and later ones have four. */
const HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE = 10;
const HASH_SPLITPOINT_PHASE_BITS = 2;
const HASH_SPLITPOINT_PHASE_MASK = (1 << HASH_SPLITPOINT_PHASE_BITS) - 1;

const MIN_BUCKETS = 2;
const MAX_BUCKETS = 0x40000000;

/** The workspace as doubles, for hashm_ntuples. */
const W64F = new Float64Array(W8.buffer);
/** For a double that is not aligned. */
const unaligned = new DataView(W8.buffer);

/** Reads a double at any alignment. */
export function f64(at: number): number {
  return unaligned.getFloat64(at, true);
}

// Special space

/** @throws {RedoError} unless PAGE has a hash page's special space */
export function checkHashPage(): void {
  checkSpecial(PAGE, HASH_OPAQUE);
}

export function setPrevBlkno(blkno: number): void {
  setU32(PAGE + HASHO_PREVBLKNO, blkno);
}

export function setNextBlkno(blkno: number): void {
  setU32(PAGE + HASHO_NEXTBLKNO, blkno);
}

export function setHashFlag(flag: number): void {
  setU16(PAGE + HASHO_FLAG, flag);
}

export function clearHashFlag(bit: number): void {
  setU16(PAGE + HASHO_FLAG, u16(PAGE + HASHO_FLAG) & ~bit);
}

/** _hash_pageinit and the special space as every caller fills it. */
export function hashPageInit(prevBlkno: number, bucket: number, flag: number): void {
  pageInit(PAGE, HASH_OPAQUE_SIZE);
  setPrevBlkno(prevBlkno);
  setNextBlkno(INVALID_BLOCK_NUMBER);
  setU32(PAGE + HASHO_BUCKET, bucket);
  setHashFlag(flag);
  setU16(PAGE + HASHO_PAGE_ID_AT, HASHO_PAGE_ID);
}

// Bitmap pages

/** _hash_initbitmapbuffer: a bitmap of `bmsize` bytes, all ones: no overflow page is free. */
export function initBitmapPage(bmsize: number): void {
  if (bmsize > MAX_BITMAP_SIZE) throw new RedoError(`a bitmap of ${bmsize} bytes does not fit a page`);
  hashPageInit(INVALID_BLOCK_NUMBER, INVALID_BUCKET, LH_BITMAP_PAGE);
  W8.fill(0xff, PAGE + PAGE_CONTENTS, PAGE + PAGE_CONTENTS + bmsize);
  setPdLower(PAGE, PAGE_CONTENTS + bmsize);
}

/** Marks an overflow page as in use. @throws {RedoError} when its bit is not on the page */
export function setBitmapBit(bit: number): void {
  W8[bitmapByte(bit)] |= 1 << (bit & 7);
}

/** Marks an overflow page as free. @throws {RedoError} when its bit is not on the page */
export function clearBitmapBit(bit: number): void {
  W8[bitmapByte(bit)] &= ~(1 << (bit & 7));
}

/** Postgres works with 32-bit words; on a little-endian machine bytes give the same result. */
function bitmapByte(bit: number): number {
  checkPageType(LH_BITMAP_PAGE);
  const byte = bit >>> 3;
  if (byte >= MAX_BITMAP_SIZE) throw new RedoError(`bit ${bit} is beyond the end of the bitmap page`);
  return PAGE + PAGE_CONTENTS + byte;
}

// Metapage

/** @throws {RedoError} unless PAGE is a hash metapage */
export function checkMetapage(): void {
  checkPageType(LH_META_PAGE);
}

function checkPageType(expected: number): void {
  checkHashPage();
  const flag = u16(PAGE + HASHO_FLAG);
  if ((flag & LH_PAGE_TYPE) !== expected) {
    throw new RedoError(
      `hash page has flags 0x${flag.toString(16)}, expected type 0x${expected.toString(16)}`,
    );
  }
}

/** hashm_ntuples: a double that counts. */
export function nTuples(): number {
  return W64F[(PAGE + HASHM_NTUPLES) >> 3];
}

export function setNTuples(ntuples: number): void {
  W64F[(PAGE + HASHM_NTUPLES) >> 3] = ntuples;
}

/** Sets hashm_spares of a splitpoint. @throws {RedoError} when there is no such splitpoint */
export function setSpares(splitpoint: number, pages: number): void {
  setU32(sparesAddress(splitpoint), pages);
}

/**
 * Counts `pages` more overflow pages for the current splitpoint. @throws {RedoError} when
 * hashm_ovflpoint is invalid
 */
export function addSpares(pages: number): void {
  const at = sparesAddress(u32(PAGE + HASHM_OVFLPOINT));
  setU32(at, u32(at) + pages);
}

function sparesAddress(splitpoint: number): number {
  if (splitpoint >= HASH_MAX_SPLITPOINTS) {
    throw new RedoError(`splitpoint ${splitpoint} is outside 0..${HASH_MAX_SPLITPOINTS - 1}`);
  }
  return PAGE + HASHM_SPARES + 4 * splitpoint;
}

/**
 * Appends to hashm_mapp the block number of a new bitmap page. @throws {RedoError} when it is full
 */
export function addBitmap(blkno: number): void {
  const nmaps = u32(PAGE + HASHM_NMAPS);
  if (nmaps >= HASH_MAX_BITMAPS) {
    throw new RedoError(`the metapage has ${nmaps} bitmaps, of at most ${HASH_MAX_BITMAPS}`);
  }
  setU32(PAGE + HASHM_MAPP + 4 * nmaps, blkno);
  setU32(PAGE + HASHM_NMAPS, nmaps + 1);
}

/**
 * _hash_init_metabuffer: the metapage of an index that has buckets for `numTuples` tuples.
 * @throws {RedoError} when the fill factor is 0
 */
export function initMetapage(numTuples: number, procid: number, ffactor: number): void {
  if (ffactor === 0) throw new RedoError("fill factor is 0");
  const buckets = initialBuckets(numTuples / ffactor);
  const splitpoint = spareIndex(buckets);
  // The next power of two above the number of buckets, minus one.
  const highmask = buckets === MAX_BUCKETS ? 0x7fffffff : (1 << ceilLog2(buckets + 1)) - 1;

  hashPageInit(INVALID_BLOCK_NUMBER, INVALID_BUCKET, LH_META_PAGE);
  setU32(PAGE + HASHM_MAGIC, HASH_MAGIC);
  setU32(PAGE + HASHM_VERSION, HASH_VERSION);
  setNTuples(0);
  setU16(PAGE + HASHM_FFACTOR, ffactor);
  setU16(PAGE + HASHM_BSIZE, MAX_BITMAP_SIZE);
  setU16(PAGE + HASHM_BMSIZE, BITMAP_SIZE);
  setU16(PAGE + HASHM_BMSHIFT, BITMAP_SHIFT);
  setU32(PAGE + HASHM_MAXBUCKET, buckets - 1);
  setU32(PAGE + HASHM_HIGHMASK, highmask);
  setU32(PAGE + HASHM_LOWMASK, highmask >>> 1);
  setU32(PAGE + HASHM_OVFLPOINT, splitpoint);
  setU32(PAGE + HASHM_PROCID, procid);
  // The page after the buckets is the first bitmap.
  setSpares(splitpoint, 1);
  setPdLower(PAGE, HASH_META_END);
}

/** How many buckets an index starts with, so that each holds as much as the fill factor says. */
function initialBuckets(wanted: number): number {
  if (!(wanted > MIN_BUCKETS)) return MIN_BUCKETS;
  if (wanted >= MAX_BUCKETS) return MAX_BUCKETS;
  return totalBuckets(spareIndex(Math.trunc(wanted)));
}

function ceilLog2(value: number): number {
  return value < 2 ? 0 : 32 - Math.clz32(value - 1);
}

/** _hash_spareindex: the splitpoint phase in which bucket number `buckets` - 1 is allocated. */
function spareIndex(buckets: number): number {
  const group = ceilLog2(buckets);
  if (group < HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE) return group;
  const phase = ((buckets - 1) >>> (group - (HASH_SPLITPOINT_PHASE_BITS + 1))) & HASH_SPLITPOINT_PHASE_MASK;
  return HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE +
    ((group - HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE) << HASH_SPLITPOINT_PHASE_BITS) + phase;
}

/** _hash_get_totalbuckets: how many buckets there are once a splitpoint phase is allocated. */
function totalBuckets(splitpoint: number): number {
  if (splitpoint < HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE) return 1 << splitpoint;
  const beyond = splitpoint - HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE;
  const group = HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE + (beyond >> HASH_SPLITPOINT_PHASE_BITS);
  const before = 2 ** (group - 1);
  return before + (before >> HASH_SPLITPOINT_PHASE_BITS) * ((beyond & HASH_SPLITPOINT_PHASE_MASK) + 1);
}
