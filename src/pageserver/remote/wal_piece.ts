/**
 * The format of a piece of WAL in the object store, and the choice of pieces that belong together.
 * docs/formats/object_store.md is the specification.
 */
import { crc32c } from "../../common/crc32c.ts";
import { ZenithError } from "../../common/errors.ts";
import { formatLsn, INVALID_LSN, type Lsn, maxLsn, minLsn } from "../../common/lsn.ts";
import type { WalPieceName } from "./keys.ts";

/** "ZNWALPC" and a zero. */
const MAGIC = Uint8Array.of(0x5a, 0x4e, 0x57, 0x41, 0x4c, 0x50, 0x43, 0x00);
const VERSION = 1;

// Offsets in the header. All numbers are little-endian.
const VERSION_AT = 8;
/** Over the WAL. */
const CRC_AT = 12;
const SEGMENT_SIZE_AT = 16;
const START_LSN_AT = 24;
const HEADER_BYTES = 32;

export interface WalPiece {
  readonly startLsn: Lsn;
  readonly segmentSize: number;
  readonly wal: Uint8Array;
}

export function encodeWalPiece({ startLsn, segmentSize, wal }: WalPiece): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + wal.length);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC);
  view.setUint32(VERSION_AT, VERSION, true);
  view.setUint32(CRC_AT, crc32c(wal, 0, wal.length), true);
  view.setUint32(SEGMENT_SIZE_AT, segmentSize, true);
  view.setBigUint64(START_LSN_AT, BigInt(startLsn), true);
  bytes.set(wal, HEADER_BYTES);
  return bytes;
}

/**
 * @param name what the object's key says that it holds
 * @throws {ZenithError} `corrupt_data`. The message names `key`
 */
export function decodeWalPiece(bytes: Uint8Array, name: WalPieceName, key: string): WalPiece {
  const damaged = (what: string) => new ZenithError("corrupt_data", `${key} ${what}`);
  if (bytes.length < HEADER_BYTES || !MAGIC.every((byte, i) => bytes[i] === byte)) {
    throw damaged("is no piece of WAL: it lacks the magic number");
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const version = view.getUint32(VERSION_AT, true);
  if (version !== VERSION) throw damaged(`has format version ${version}, expected ${VERSION}`);
  const wal = bytes.subarray(HEADER_BYTES);
  const startLsn = Number(view.getBigUint64(START_LSN_AT, true)) as Lsn;
  if (startLsn !== name.startLsn || startLsn + wal.length !== name.endLsn) {
    throw damaged(`holds ${wal.length} bytes of WAL from ${formatLsn(startLsn)}`);
  }
  if (crc32c(wal, 0, wal.length) !== view.getUint32(CRC_AT, true)) throw damaged("fails its checksum");
  return { startLsn, segmentSize: view.getUint32(SEGMENT_SIZE_AT, true), wal };
}

/** A part of a piece. */
export interface WalPart {
  readonly piece: WalPieceName;
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
}

/** WAL of one generation with nothing missing. */
export interface WalSpan {
  readonly generation: number;
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
}

/** What counts of the WAL that generations before a manifest's have uploaded of a timeline. */
export interface InheritedWal {
  /** Where it ends. */
  readonly endLsn: Lsn;
  /**
   * In order. Null in manifests that don't say it: then it is all that ends there, where no later
   * generation begins.
   */
  readonly spans: readonly WalSpan[] | null;
}

/**
 * Returns the WAL that the pieces make up, in order. Where pieces overlap, the newer generation is
 * right from where it begins: what an older one has there was given up.
 *
 * @param generation that of the manifest: its pieces count in full, and those of later ones don't
 */
export function walParts(
  pieces: readonly WalPieceName[],
  generation: number,
  inherited: InheritedWal,
): WalPart[] {
  const parts: WalPart[] = [];
  const add = (piece: WalPieceName, startLsn: Lsn, endLsn: Lsn): void => {
    if (endLsn <= startLsn) return;
    while (parts.length > 0 && parts.at(-1)!.startLsn >= startLsn) parts.pop();
    const last = parts.at(-1);
    if (last !== undefined && last.endLsn > startLsn) parts[parts.length - 1] = { ...last, endLsn: startLsn };
    parts.push({ piece, startLsn, endLsn });
  };
  const sorted = pieces.toSorted((a, b) => a.generation - b.generation || a.startLsn - b.startLsn);
  const earlier = sorted.filter((piece) => piece.generation < generation);
  if (inherited.spans === null) {
    for (const piece of earlier) add(piece, piece.startLsn, minLsn(piece.endLsn, inherited.endLsn));
  } else {
    for (const span of inherited.spans) {
      for (const piece of earlier) {
        if (piece.generation !== span.generation) continue;
        add(piece, maxLsn(piece.startLsn, span.startLsn), minLsn(piece.endLsn, span.endLsn));
      }
    }
  }
  for (const piece of sorted) {
    if (piece.generation === generation) add(piece, piece.startLsn, piece.endLsn);
  }
  return parts;
}

/** What a later generation inherits when these are all the parts that count. */
export function inheritParts(parts: readonly WalPart[]): InheritedWal {
  const spans: WalSpan[] = [];
  for (const { piece: { generation }, startLsn, endLsn } of parts) {
    const last = spans.at(-1);
    if (last?.generation === generation && last.endLsn === startLsn) {
      spans[spans.length - 1] = { ...last, endLsn };
    } else spans.push({ generation, startLsn, endLsn });
  }
  return { endLsn: parts.at(-1)?.endLsn ?? INVALID_LSN, spans };
}

/** What is left of it when it ends earlier. */
export function cutInherited({ endLsn, spans }: InheritedWal, end: Lsn): InheritedWal {
  if (endLsn <= end) return { endLsn, spans };
  const left = spans?.filter(({ startLsn }) => startLsn < end) ?? null;
  // Without spans, an LSN would mean all that there is up to it.
  if (left?.length === 0) return { endLsn: INVALID_LSN, spans: [] };
  return {
    endLsn: end,
    spans: left?.map((span) => ({ ...span, endLsn: minLsn(span.endLsn, end) })) ?? null,
  };
}

/** Splits parts where WAL is missing between them. Each run has none missing. */
export function walRuns(parts: readonly WalPart[]): WalPart[][] {
  const runs: WalPart[][] = [];
  for (const part of parts) {
    const run = runs.at(-1);
    if (run?.at(-1)?.endLsn === part.startLsn) run.push(part);
    else runs.push([part]);
  }
  return runs;
}
