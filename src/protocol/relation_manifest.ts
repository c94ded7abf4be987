/**
 * The list of relation files that a lazy basebackup leaves out: the files that exist at its LSN,
 * and their lengths. docs/formats/relation_manifest.md is the specification. All integers are
 * big-endian, as in pagestream.
 */
import { assert } from "../common/assert.ts";
import { crc32c } from "../common/crc32c.ts";
import { ZenithError } from "../common/errors.ts";
import { type Lsn, lsnFromHalves, lsnHigh, lsnLow } from "../common/lsn.ts";

/** The manifest's name in the basebackup's archive. */
export const RELATION_MANIFEST_FILE = "relation_manifest";

/** "ZREL". */
const MAGIC = 0x5a52454c;
const VERSION = 1;

const OFFSET_VERSION = 4;
const OFFSET_ENTRIES = 8;
const OFFSET_RESERVED = 12;
const OFFSET_LSN = 16;
const OFFSET_PREV = 24;
const HEADER_BYTES = 32;

const ENTRY_SPC = 0;
const ENTRY_DB = 4;
const ENTRY_REL = 8;
const ENTRY_BLOCKS = 12;
const ENTRY_FORK = 16;
const ENTRY_SOURCE_FORK = 17;
const ENTRY_RESERVED = 18;
const ENTRY_BYTES = 20;

const CRC_BYTES = 4;

/** MAX_FORKNUM (common/relpath.h). */
const MAX_FORKNUM = 3;

/** One fork of one relation. */
export interface ManifestEntry {
  readonly spc: number;
  /** 0 for a relation that all databases share. */
  readonly db: number;
  readonly rel: number;
  readonly fork: number;
  /**
   * The fork whose pages the file begins with: its own, or the init fork for the main fork of an
   * unlogged relation.
   */
  readonly sourceFork: number;
  readonly blocks: number;
}

export interface RelationManifest {
  /** The basebackup's LSN, at which pages must be read. */
  readonly lsn: Lsn;
  /** Where the last WAL record before `lsn` starts. */
  readonly prev: Lsn;
  readonly entries: readonly ManifestEntry[];
}

export function encodeRelationManifest(manifest: RelationManifest): Uint8Array {
  const { lsn, prev, entries } = manifest;
  const bytes = new Uint8Array(HEADER_BYTES + entries.length * ENTRY_BYTES + CRC_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC);
  view.setUint32(OFFSET_VERSION, VERSION);
  view.setUint32(OFFSET_ENTRIES, entries.length);
  putLsn(view, OFFSET_LSN, lsn);
  putLsn(view, OFFSET_PREV, prev);
  let at = HEADER_BYTES;
  for (const { spc, db, rel, fork, sourceFork, blocks } of entries) {
    assert(fork <= MAX_FORKNUM && sourceFork <= MAX_FORKNUM, "a fork number is 0 to 3");
    view.setUint32(at + ENTRY_SPC, spc);
    view.setUint32(at + ENTRY_DB, db);
    view.setUint32(at + ENTRY_REL, rel);
    view.setUint32(at + ENTRY_BLOCKS, blocks);
    bytes[at + ENTRY_FORK] = fork;
    bytes[at + ENTRY_SOURCE_FORK] = sourceFork;
    at += ENTRY_BYTES;
  }
  view.setUint32(at, crc32c(bytes, 0, at));
  return bytes;
}

/** @throws {ZenithError} `protocol` when the format does not allow it */
export function decodeRelationManifest(bytes: Uint8Array): RelationManifest {
  if (bytes.length < HEADER_BYTES + CRC_BYTES) throw malformed(`it has ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0) !== MAGIC) throw malformed("it has another magic number");
  const version = view.getUint32(OFFSET_VERSION);
  if (version !== VERSION) throw malformed(`version ${version}, this side reads version ${VERSION}`);
  const count = view.getUint32(OFFSET_ENTRIES);
  const end = HEADER_BYTES + count * ENTRY_BYTES;
  if (bytes.length !== end + CRC_BYTES) throw malformed(`${bytes.length} bytes for ${count} entries`);
  if (view.getUint32(end) !== crc32c(bytes, 0, end)) throw malformed("its checksum is wrong");
  if (view.getUint32(OFFSET_RESERVED) !== 0) throw malformed("a reserved field is not zero");
  const entries: ManifestEntry[] = [];
  for (let at = HEADER_BYTES; at < end; at += ENTRY_BYTES) {
    const fork = bytes[at + ENTRY_FORK];
    const sourceFork = bytes[at + ENTRY_SOURCE_FORK];
    if (fork > MAX_FORKNUM || sourceFork > MAX_FORKNUM || view.getUint16(at + ENTRY_RESERVED) !== 0) {
      throw malformed(`entry ${entries.length} is of fork ${fork}, from fork ${sourceFork}`);
    }
    entries.push({
      spc: view.getUint32(at + ENTRY_SPC),
      db: view.getUint32(at + ENTRY_DB),
      rel: view.getUint32(at + ENTRY_REL),
      fork,
      sourceFork,
      blocks: view.getUint32(at + ENTRY_BLOCKS),
    });
  }
  return { lsn: getLsn(view, OFFSET_LSN), prev: getLsn(view, OFFSET_PREV), entries };
}

function putLsn(view: DataView, at: number, lsn: Lsn): void {
  view.setUint32(at, lsnHigh(lsn));
  view.setUint32(at + 4, lsnLow(lsn));
}

function getLsn(view: DataView, at: number): Lsn {
  return lsnFromHalves(view.getUint32(at), view.getUint32(at + 4));
}

function malformed(what: string): ZenithError {
  return new ZenithError("protocol", `relation manifest: ${what}`);
}
