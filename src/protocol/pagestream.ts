/**
 * The messages of `pagestream`, by which a compute reads pages. Each CopyData message holds one
 * request or response. docs/formats/pagestream.md is the specification. All integers are
 * big-endian, as in the protocol around them.
 */
import { assert } from "../common/assert.ts";
import { putUint32, putUint64, uint32 } from "../common/big_endian.ts";
import { ZenithError } from "../common/errors.ts";
import { type Lsn, lsnFromHalves } from "../common/lsn.ts";

const PAGESTREAM_VERSION = 1;

/** BLCKSZ: the only supported page size. */
export const PAGE_BYTES = 8192;

/** The most blocks that one request may ask for: 1 MiB, the kernel's largest read-ahead. */
export const PAGES_MAX_COUNT = 128;

/** Request tags. */
export const REQUEST_EXISTS = 1;
export const REQUEST_NBLOCKS = 2;
export const REQUEST_PAGES = 3;
export const REQUEST_DBSIZE = 4;
export const REQUEST_WAL = 5;

/** Response tags: the request's tag with the high bit set, or the error tag. */
export const RESPONSE_EXISTS = 0x81;
export const RESPONSE_NBLOCKS = 0x82;
export const RESPONSE_PAGES = 0x83;
export const RESPONSE_DBSIZE = 0x84;
export const RESPONSE_WAL = 0x85;
export const RESPONSE_ERROR = 0xff;

/** Every request has this length. */
export const REQUEST_BYTES = 36;
/** Every response begins with this many bytes. Pages or an error's text follow. */
export const RESPONSE_HEADER_BYTES = 16;
/** The end of a longer text is cut off. */
const ERROR_MESSAGE_MAX_BYTES = 8192;

const OFFSET_TAG = 0;
const OFFSET_VERSION = 1;
const OFFSET_FORK = 2;
const OFFSET_RESERVED = 3;
const OFFSET_REQUEST_ID = 4;
const OFFSET_LSN = 8;
const OFFSET_SPC = 16;
const OFFSET_DB = 20;
const OFFSET_REL = 24;
const OFFSET_BLKNO = 28;
const OFFSET_COUNT = 32;

const OFFSET_RESPONSE_RESERVED = 2;
const OFFSET_VALUE = 8;
const OFFSET_SQLSTATE = 8;
const OFFSET_SQLSTATE_PADDING = 13;
const SQLSTATE_BYTES = 5;

/** MAX_FORKNUM (common/relpath.h): main, fsm, vm, init. */
const MAX_FORKNUM = 3;
/** MaxBlockNumber + 1 (storage/block.h). */
const BLOCKS_MAX = 0xffff_ffff;

const utf8Encoder = new TextEncoder();
const utf8Decoder = new TextDecoder();

/** A request. Each connection reuses one object. */
export class PageRequest {
  tag = 0;
  /**
   * Chosen by the client and returned in the response, because requests may be answered in any
   * order.
   */
  requestId = 0;
  /**
   * The LSN to read at. 0 means the newest that the server has. For WAL, where it begins.
   */
  lsn = 0 as Lsn;
  spc = 0;
  db = 0;
  rel = 0;
  fork = 0;
  blkno = 0;
  count = 0;
}

/**
 * A response. `off` and `len` give the place of its pages or its error text in the decoded buffer.
 */
export class PageResponse {
  tag = 0;
  requestId = 0;
  /**
   * For EXISTS 0 or 1, for NBLOCKS blocks, for PAGES and WAL the number of pages, for DBSIZE bytes.
   */
  value = 0;
  /** For ERROR, five characters. */
  sqlstate = "";
  off = 0;
  len = 0;
}

/** Writes `request` at `bytes[off, off + REQUEST_BYTES)`. */
export function encodeRequest(bytes: Uint8Array, off: number, request: PageRequest): void {
  bytes[off + OFFSET_TAG] = request.tag;
  bytes[off + OFFSET_VERSION] = PAGESTREAM_VERSION;
  bytes[off + OFFSET_FORK] = request.fork;
  bytes[off + OFFSET_RESERVED] = 0;
  putUint32(bytes, off + OFFSET_REQUEST_ID, request.requestId);
  putUint64(bytes, off + OFFSET_LSN, request.lsn);
  putUint32(bytes, off + OFFSET_SPC, request.spc);
  putUint32(bytes, off + OFFSET_DB, request.db);
  putUint32(bytes, off + OFFSET_REL, request.rel);
  putUint32(bytes, off + OFFSET_BLKNO, request.blkno);
  putUint32(bytes, off + OFFSET_COUNT, request.count);
}

/**
 * Decodes the request at `bytes[off, off + len)` into `request`.
 *
 * @throws {ZenithError} `protocol` when the format does not allow it
 */
export function decodeRequest(request: PageRequest, bytes: Uint8Array, off: number, len: number): void {
  if (len !== REQUEST_BYTES) throw malformed(`request of ${len} bytes, expected ${REQUEST_BYTES}`);
  checkVersion(bytes[off + OFFSET_VERSION]);
  const tag = bytes[off + OFFSET_TAG];
  const fork = bytes[off + OFFSET_FORK];
  const blkno = uint32(bytes, off + OFFSET_BLKNO);
  const count = uint32(bytes, off + OFFSET_COUNT);
  request.tag = tag;
  request.requestId = uint32(bytes, off + OFFSET_REQUEST_ID);
  request.lsn = lsnFromHalves(uint32(bytes, off + OFFSET_LSN), uint32(bytes, off + OFFSET_LSN + 4));
  request.spc = uint32(bytes, off + OFFSET_SPC);
  request.db = uint32(bytes, off + OFFSET_DB);
  request.rel = uint32(bytes, off + OFFSET_REL);
  request.fork = fork;
  request.blkno = blkno;
  request.count = count;
  if (bytes[off + OFFSET_RESERVED] !== 0) throw malformed("request with a reserved byte that is not zero");
  if (fork > MAX_FORKNUM) throw malformed(`request for fork ${fork}, expected 0 to ${MAX_FORKNUM}`);
  switch (tag) {
    case REQUEST_PAGES:
      checkCount(count);
      if (blkno + count > BLOCKS_MAX) throw malformed(`request for blocks beyond ${BLOCKS_MAX - 1}`);
      return;
    case REQUEST_WAL:
      checkCount(count);
      if (request.lsn === 0 || request.lsn % PAGE_BYTES !== 0) {
        throw malformed(`request for WAL at ${request.lsn}, which is no page's boundary`);
      }
      if (request.spc !== 0 || request.db !== 0 || request.rel !== 0 || fork !== 0 || blkno !== 0) {
        throw malformed("WAL request that names a relation");
      }
      return;
    case REQUEST_DBSIZE:
      if (request.rel !== 0 || fork !== 0) throw malformed("DBSIZE request that names a relation");
      break;
    case REQUEST_EXISTS:
    case REQUEST_NBLOCKS:
      break;
    default:
      throw malformed(`request with unknown tag ${tag}`);
  }
  if (blkno !== 0 || count !== 0) throw malformed(`request with tag ${tag} that names blocks`);
}

function checkCount(count: number): void {
  if (count >= 1 && count <= PAGES_MAX_COUNT) return;
  throw malformed(`request for ${count} pages, expected 1 to ${PAGES_MAX_COUNT}`);
}

/** The length of a PAGES or WAL response with `count` pages. */
export function pagesResponseBytes(count: number): number {
  return RESPONSE_HEADER_BYTES + count * PAGE_BYTES;
}

/**
 * Writes the header of a PAGES or WAL response. The pages follow it in their order.
 *
 * @returns the offset of the first page
 */
export function encodePagesHeader(
  bytes: Uint8Array,
  off: number,
  requestId: number,
  count: number,
  tag: typeof RESPONSE_PAGES | typeof RESPONSE_WAL = RESPONSE_PAGES,
): number {
  encodeValueResponse(bytes, off, tag, requestId, count);
  return off + RESPONSE_HEADER_BYTES;
}

/** Writes an EXISTS (0 or 1), NBLOCKS or DBSIZE response, of RESPONSE_HEADER_BYTES bytes. */
export function encodeValueResponse(
  bytes: Uint8Array,
  off: number,
  tag: number,
  requestId: number,
  value: number,
): void {
  assert(Number.isSafeInteger(value) && value >= 0, "pagestream: a value that is no count");
  encodeResponseStart(bytes, off, tag, requestId);
  putUint64(bytes, off + OFFSET_VALUE, value);
}

/**
 * Returns a whole ERROR response. This allocates, because errors are rare.
 *
 * @param sqlstate five ASCII characters
 */
export function encodeErrorResponse(requestId: number, sqlstate: string, message: string): Uint8Array {
  assert(/^[0-9A-Z]{5}$/.test(sqlstate), "pagestream: an SQLSTATE has five characters");
  const text = utf8Encoder.encode(message).subarray(0, ERROR_MESSAGE_MAX_BYTES);
  const bytes = new Uint8Array(RESPONSE_HEADER_BYTES + text.length);
  encodeResponseStart(bytes, 0, RESPONSE_ERROR, requestId);
  utf8Encoder.encodeInto(sqlstate, bytes.subarray(OFFSET_SQLSTATE));
  bytes.set(text, RESPONSE_HEADER_BYTES);
  return bytes;
}

/**
 * Decodes the response at `bytes[off, off + len)` into `response`.
 *
 * @throws {ZenithError} `protocol` when the format does not allow it
 */
export function decodeResponse(response: PageResponse, bytes: Uint8Array, off: number, len: number): void {
  if (len < RESPONSE_HEADER_BYTES) {
    throw malformed(`response of ${len} bytes, expected at least ${RESPONSE_HEADER_BYTES}`);
  }
  checkVersion(bytes[off + OFFSET_VERSION]);
  const tag = bytes[off + OFFSET_TAG];
  if (bytes[off + OFFSET_RESPONSE_RESERVED] !== 0 || bytes[off + OFFSET_RESPONSE_RESERVED + 1] !== 0) {
    throw malformed("response with reserved bytes that are not zero");
  }
  response.tag = tag;
  response.requestId = uint32(bytes, off + OFFSET_REQUEST_ID);
  response.off = off + RESPONSE_HEADER_BYTES;
  response.len = len - RESPONSE_HEADER_BYTES;
  response.sqlstate = "";
  response.value = 0;
  if (tag === RESPONSE_ERROR) {
    decodeError(response, bytes, off);
    return;
  }
  const high = uint32(bytes, off + OFFSET_VALUE);
  const value = high * 0x1_0000_0000 + uint32(bytes, off + OFFSET_VALUE + 4);
  if (value > Number.MAX_SAFE_INTEGER) throw malformed("response with a value beyond 2^53");
  response.value = value;
  switch (tag) {
    case RESPONSE_PAGES:
    case RESPONSE_WAL:
      if (value < 1 || value > PAGES_MAX_COUNT || len !== pagesResponseBytes(value)) {
        throw malformed(`response with tag ${tag} of ${len} bytes for ${value} pages`);
      }
      return;
    case RESPONSE_EXISTS:
      if (value > 1) throw malformed(`EXISTS response with value ${value}`);
      break;
    case RESPONSE_NBLOCKS:
      if (value > BLOCKS_MAX) throw malformed(`NBLOCKS response with value ${value}`);
      break;
    case RESPONSE_DBSIZE:
      break;
    default:
      throw malformed(`response with unknown tag ${tag}`);
  }
  if (len !== RESPONSE_HEADER_BYTES) throw malformed(`response with tag ${tag} of ${len} bytes`);
}

/** Returns the text of an ERROR response that {@link decodeResponse} has decoded from `bytes`. */
export function responseErrorMessage(response: PageResponse, bytes: Uint8Array): string {
  return utf8Decoder.decode(bytes.subarray(response.off, response.off + response.len));
}

function decodeError(response: PageResponse, bytes: Uint8Array, off: number): void {
  const sqlstate = String.fromCharCode(
    ...bytes.subarray(off + OFFSET_SQLSTATE, off + OFFSET_SQLSTATE + SQLSTATE_BYTES),
  );
  if (!/^[0-9A-Z]{5}$/.test(sqlstate)) throw malformed("ERROR response without an SQLSTATE");
  for (let at = OFFSET_SQLSTATE_PADDING; at < RESPONSE_HEADER_BYTES; at++) {
    if (bytes[off + at] !== 0) throw malformed("ERROR response with padding that is not zero");
  }
  if (response.len > ERROR_MESSAGE_MAX_BYTES) {
    throw malformed(`ERROR response with ${response.len} bytes of text`);
  }
  response.sqlstate = sqlstate;
}

function encodeResponseStart(bytes: Uint8Array, off: number, tag: number, requestId: number): void {
  bytes[off + OFFSET_TAG] = tag;
  bytes[off + OFFSET_VERSION] = PAGESTREAM_VERSION;
  bytes[off + OFFSET_RESPONSE_RESERVED] = 0;
  bytes[off + OFFSET_RESPONSE_RESERVED + 1] = 0;
  putUint32(bytes, off + OFFSET_REQUEST_ID, requestId);
}

function checkVersion(version: number): void {
  if (version !== PAGESTREAM_VERSION) {
    throw malformed(`message of version ${version}, this side speaks version ${PAGESTREAM_VERSION}`);
  }
}

function malformed(what: string): ZenithError {
  return new ZenithError("protocol", `pagestream: ${what}`);
}
