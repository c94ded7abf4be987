/** `zenith dump wal`: shows the records in WAL segment files, or counts them. */
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { formatLsn, type Lsn, parseLsn } from "../../common/lsn.ts";
import { forkName, MAIN_FORKNUM } from "../../postgres/cluster/relfile.ts";
import { WalDecoder } from "../../postgres/wal/decoder.ts";
import { WalError } from "../../postgres/wal/error.ts";
import { pageOffset } from "../../postgres/wal/page_header.ts";
import {
  BKPBLOCK_FORK_MASK,
  BKPBLOCK_HAS_IMAGE,
  BKPBLOCK_WILL_INIT,
  BKPIMAGE_APPLY,
  BKPIMAGE_COMPRESS_LZ4,
  BKPIMAGE_COMPRESS_PGLZ,
  BKPIMAGE_COMPRESS_ZSTD,
  BKPIMAGE_COMPRESSED,
  WalRecord,
} from "../../postgres/wal/record.ts";
import { recordTypeName, rmgrIdByName, rmgrName } from "../../postgres/wal/rmgr.ts";
import type { PgVersion } from "../../postgres/versions/pg_version.ts";
import { findWalFiles, firstWalPage, readWalFile, type WalFiles } from "./wal_files.ts";

export interface DumpWalOptions {
  /** Only records of these resource managers, by name. */
  rmgr?: readonly string[] | undefined;
  /** Only records that start at or after this. */
  from?: Lsn | undefined;
  /** Only records that start before this. */
  to?: Lsn | undefined;
  /** One JSON object per line. */
  json?: boolean | undefined;
  /** Counts and sizes per record type instead of records. */
  stats?: boolean | undefined;
}

export interface DumpWalResult {
  /** Records shown or counted. */
  records: number;
  /** The end of the last record read. */
  endLsn: Lsn;
  /** Why the dump ended. */
  reason: string;
}

interface TypeStats {
  count: number;
  recordBytes: number;
  imageBytes: number;
}

const PIECE_SIZE = 256 << 10;

/**
 * Parses `--lsn 0/1500000..0/1600000`. Either side can be left out.
 *
 * @throws {ZenithError} `invalid_argument`
 */
export function parseLsnRange(text: string): { from: Lsn | undefined; to: Lsn | undefined } {
  const [from, to, ...more] = text.split("..");
  if (from === undefined || to === undefined || more.length > 0) {
    throw new ZenithError("invalid_argument", `"${text}" is not a range of LSNs like 0/1500000..0/1600000`);
  }
  return { from: from === "" ? undefined : parseLsn(from), to: to === "" ? undefined : parseLsn(to) };
}

/**
 * Shows WAL records.
 *
 * @param path a segment file, or a directory of them, or a data directory
 * @param out receives each line, without a line feed
 * @throws {ZenithError} when there is no WAL, or damaged WAL before `options.to`
 */
export function dumpWal(path: string, options: DumpWalOptions, out: (line: string) => void): DumpWalResult {
  const wanted = options.rmgr === undefined ? undefined : new Set(options.rmgr.map(rmgrId));
  const stats = options.stats === true ? new Map<string, TypeStats>() : undefined;
  const walFiles = findWalFiles(path, options.from);
  const { pg } = walFiles;
  const first = firstWalPage(walFiles.files[0], walFiles.segmentSize);
  const decoder = new WalDecoder({
    pg,
    startLsn: options.from === undefined || options.from < first ? first : options.from,
    segmentSize: walFiles.segmentSize,
    findFirst: true,
    zerosAreEnd: true,
  });
  let records = 0;
  const reason = readRecords(walFiles, decoder, options.to, (rec) => {
    if (wanted !== undefined && !wanted.has(rec.xl_rmid)) return;
    records++;
    if (stats !== undefined) addToStats(pg, stats, rec);
    else out(options.json === true ? JSON.stringify(describeRecord(pg, rec)) : formatRecord(pg, rec));
  });
  const endLsn = decoder.endLsn;
  if (stats !== undefined) printStats(stats, options.json === true, out);
  else if (options.json !== true) out(`end at ${formatLsn(endLsn)}: ${reason}`);
  return { records, endLsn, reason };
}

function rmgrId(name: string): number {
  const id = rmgrIdByName(name);
  if (id === undefined) throw new ZenithError("invalid_argument", `there is no resource manager "${name}"`);
  return id;
}

/** Calls `visit` for every record up to `to`; returns why it stopped. */
function readRecords(
  walFiles: WalFiles,
  decoder: WalDecoder,
  to: Lsn | undefined,
  visit: (rec: WalRecord) => void,
): string {
  const rec = new WalRecord();
  const piece = new Uint8Array(PIECE_SIZE);
  for (const file of walFiles.files) {
    const skipped = Math.max(0, decoder.fedLsn - file.lsn);
    let offset = skipped - pageOffset(skipped);
    while (offset < walFiles.segmentSize) {
      const count = readWalFile(file.path, offset, piece);
      if (count === 0) return `${file.path} is shorter than a segment`;
      decoder.feed(piece.subarray(0, count), (file.lsn + offset) as Lsn);
      offset += count;
      try {
        // WAL after the range need not even be valid.
        while (to === undefined || decoder.position < to) {
          if (!decoder.next(rec)) break;
          if (to === undefined || rec.lsn < to) visit(rec);
        }
        if (to !== undefined && decoder.position >= to) return "the end of the range";
      } catch (error) {
        // Behind the end of WAL, a recycled file has older WAL. That is damage only if the range
        // goes beyond it.
        if (error instanceof WalError && to === undefined) return errorMessage(error);
        throw error;
      }
      if (decoder.ended) return decoder.hasPartialRecord ? "the last record is not complete" : "no more WAL";
    }
  }
  return decoder.hasPartialRecord ? "the last record goes on in the next segment" : "no more segments";
}

function imageBytes(rec: WalRecord): number {
  let bytes = 0;
  for (let id = 0; id < rec.blockCount; id++) {
    if (rec.blockInUse[id] === 1) bytes += rec.imageLen[id];
  }
  return bytes;
}

function formatRecord(pg: PgVersion, rec: WalRecord): string {
  const images = imageBytes(rec);
  const recordBytes = rec.xl_tot_len - images;
  let line = `rmgr: ${rmgrName(rec.xl_rmid).padEnd(11)} ` +
    `len (rec/tot): ${String(recordBytes).padStart(6)}/${String(rec.xl_tot_len).padStart(6)}, ` +
    `tx: ${String(rec.xl_xid).padStart(10)}, lsn: ${formatLsn(rec.lsn as Lsn)}, ` +
    `prev ${formatLsn(rec.xl_prev as Lsn)}, desc: ${recordTypeName(pg, rec.xl_rmid, rec.xl_info)}`;
  for (let id = 0; id < rec.blockCount; id++) {
    if (rec.blockInUse[id] === 0) continue;
    const fork = rec.blockFlags[id] & BKPBLOCK_FORK_MASK;
    line += `, blkref #${id}: rel ${rec.spcNode[id]}/${rec.dbNode[id]}/${rec.relNode[id]}` +
      (fork === MAIN_FORKNUM ? "" : ` fork ${forkName(fork)}`) + ` blk ${rec.blkno[id]}`;
    if ((rec.blockFlags[id] & BKPBLOCK_HAS_IMAGE) !== 0) {
      const apply = (rec.imageInfo[id] & BKPIMAGE_APPLY) !== 0;
      line += ` ${apply ? "FPW" : "FPW for WAL verification"} ${rec.imageLen[id]} ${compression(rec, id)}`
        .trimEnd();
    }
  }
  return line;
}

function compression(rec: WalRecord, id: number): string {
  switch (rec.imageInfo[id] & BKPIMAGE_COMPRESSED) {
    case 0:
      return "";
    case BKPIMAGE_COMPRESS_PGLZ:
      return "pglz";
    case BKPIMAGE_COMPRESS_LZ4:
      return "lz4";
    case BKPIMAGE_COMPRESS_ZSTD:
      return "zstd";
    default:
      return "unknown";
  }
}

function describeRecord(pg: PgVersion, rec: WalRecord): Record<string, unknown> {
  const blocks = [];
  for (let id = 0; id < rec.blockCount; id++) {
    if (rec.blockInUse[id] === 0) continue;
    const flags = rec.blockFlags[id];
    blocks.push({
      id,
      rel: `${rec.spcNode[id]}/${rec.dbNode[id]}/${rec.relNode[id]}`,
      fork: forkName(flags & BKPBLOCK_FORK_MASK),
      blkno: rec.blkno[id],
      will_init: (flags & BKPBLOCK_WILL_INIT) !== 0,
      data_length: rec.dataLen[id],
      image: (flags & BKPBLOCK_HAS_IMAGE) === 0 ? null : {
        length: rec.imageLen[id],
        hole_offset: rec.holeOff[id],
        hole_length: rec.holeLen[id],
        compression: compression(rec, id) || null,
        apply: (rec.imageInfo[id] & BKPIMAGE_APPLY) !== 0,
      },
    });
  }
  return {
    lsn: formatLsn(rec.lsn as Lsn),
    end_lsn: formatLsn(rec.endLsn as Lsn),
    prev: formatLsn(rec.xl_prev as Lsn),
    rmgr: rmgrName(rec.xl_rmid),
    type: recordTypeName(pg, rec.xl_rmid, rec.xl_info),
    info: rec.xl_info,
    xid: rec.xl_xid,
    length: rec.xl_tot_len,
    main_length: rec.mainLen,
    origin: rec.originId,
    toplevel_xid: rec.toplevelXid,
    blocks,
  };
}

function addToStats(pg: PgVersion, stats: Map<string, TypeStats>, rec: WalRecord): void {
  const type = `${rmgrName(rec.xl_rmid)}/${recordTypeName(pg, rec.xl_rmid, rec.xl_info)}`;
  let entry = stats.get(type);
  if (entry === undefined) {
    entry = { count: 0, recordBytes: 0, imageBytes: 0 };
    stats.set(type, entry);
  }
  const images = imageBytes(rec);
  entry.count++;
  entry.imageBytes += images;
  entry.recordBytes += rec.xl_tot_len - images;
}

function printStats(stats: ReadonlyMap<string, TypeStats>, json: boolean, out: (line: string) => void): void {
  const row = (type: string, count: string, recordBytes: string, imageBytes: string) =>
    out(`${type.padEnd(32)} ${count.padStart(12)} ${recordBytes.padStart(16)} ${imageBytes.padStart(16)}`);
  const total: TypeStats = { count: 0, recordBytes: 0, imageBytes: 0 };
  if (!json) row("type", "records", "record bytes", "image bytes");
  for (const [type, entry] of [...stats].sort(([a], [b]) => a < b ? -1 : 1)) {
    total.count += entry.count;
    total.recordBytes += entry.recordBytes;
    total.imageBytes += entry.imageBytes;
    if (json) {
      out(JSON.stringify({
        type,
        records: entry.count,
        record_bytes: entry.recordBytes,
        image_bytes: entry.imageBytes,
      }));
    } else {
      row(type, String(entry.count), String(entry.recordBytes), String(entry.imageBytes));
    }
  }
  if (!json) row("total", String(total.count), String(total.recordBytes), String(total.imageBytes));
}
