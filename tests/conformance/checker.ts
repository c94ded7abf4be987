/**
 * Replays WAL that was written with wal_consistency_checking: every record to every block that it changes, comparing the
 * result with the page that PostgreSQL put into the record, as verifyBackupPageConsistency in xlogrecovery.c does.
 */
import { formatLsn, type Lsn } from "../../src/common/lsn.ts";
import { errorMessage, ZenithError } from "../../src/common/errors.ts";
import {
  applyRecordTo,
  type BlockTarget,
  finishPage,
  startPage,
} from "../../src/postgres/redo/reconstruct.ts";
import { hasApplicableImage } from "../../src/postgres/redo/redo.ts";
import {
  redoTruncateVisibilityMap,
  visibilityMapBlocksAfterTruncate,
} from "../../src/postgres/redo/heap/visibility_map.ts";
import {
  VisibilityMapChanges,
  visibilityMapChanges,
} from "../../src/postgres/redo/heap/visibility_map_changes.ts";
import { restoreBlockImage } from "../../src/postgres/wal/block_image.ts";
import { cutRecord, NO_BLOCK } from "../../src/postgres/wal/cut_record.ts";
import { FSM_FORKNUM, MAIN_FORKNUM, VISIBILITYMAP_FORKNUM } from "../../src/postgres/cluster/relfile.ts";
import {
  BKPBLOCK_FORK_MASK,
  BKPBLOCK_HAS_IMAGE,
  type WalRecord,
  XLR_RMGR_INFO_MASK,
} from "../../src/postgres/wal/record.ts";
import type { PgVersion } from "../../src/postgres/versions/pg_version.ts";
import { parseDbase } from "../../src/postgres/wal/records/dbase.ts";
import {
  parseSmgrTruncate,
  SMGR_TRUNCATE_VM,
  XLOG_SMGR_TRUNCATE,
} from "../../src/postgres/wal/records/smgr.ts";
import { RM_DBASE_ID, RM_SEQ_ID, RM_SMGR_ID, RM_XACT_ID } from "../../src/postgres/wal/rmgr.ts";
import {
  parseAbort,
  parseCommit,
  XLOG_XACT_ABORT,
  XLOG_XACT_ABORT_PREPARED,
  XLOG_XACT_COMMIT,
  XLOG_XACT_COMMIT_PREPARED,
} from "../../src/postgres/wal/xact.ts";
import { type Mask, MASKS, UNLOGGED_MASKS } from "./masks/mod.ts";
import { type ClusterPages, type Fork, isVisibilityMap, readBlock, relationFile } from "./pages.ts";
import { isOnlyPinned } from "./pinned_blocks.ts";
import type { Report, TypeCounts } from "./report.ts";

const BLCKSZ = 8192;
const SIZE_OF_PAGE_HEADER = 24;
const XLOG_XACT_OPMASK = 0x70;

/** Where the page that a record is applied to comes from. */
export type PageBefore =
  /** From our own redo of all records before, as on a page server: an error would go on from record to record. */
  | "redo"
  /** From the last image that PostgreSQL logged: each record is tried on the very page that PostgreSQL had. */
  | "image";

/** Is shown each record before it is applied to block reference `i`, and the page that it is applied to. */
export type Observer = (rec: WalRecord, i: number, target: BlockTarget, before: Uint8Array) => void;

export class Checker {
  readonly #pg: PgVersion;
  readonly #observe: Observer | undefined;
  readonly #pages: ClusterPages;
  readonly #report: Report;
  readonly #before: PageBefore;
  readonly #vm = new VisibilityMapChanges();

  readonly #result = new Uint8Array(BLCKSZ);
  readonly #fromCut = new Uint8Array(BLCKSZ);
  readonly #image = new Uint8Array(BLCKSZ);
  readonly #masked = new Uint8Array(BLCKSZ);
  readonly #maskedImage = new Uint8Array(BLCKSZ);
  #cut = new Uint8Array(64 << 10);

  constructor(
    pg: PgVersion,
    pages: ClusterPages,
    report: Report,
    before: PageBefore,
    observe?: Observer,
  ) {
    this.#pg = pg;
    this.#observe = observe;
    this.#pages = pages;
    this.#report = report;
    this.#before = before;
  }

  /** Applies one record to everything that it changes. */
  apply(rec: WalRecord): void {
    const counts = this.#report.type(rec.xl_rmid, rec.xl_info);
    counts.records++;
    for (let i = 0; i < rec.blockCount; i++) {
      if (rec.blockInUse[i] === 1) this.#applyToBlock(rec, i, counts);
    }
    this.#applyToVisibilityMap(rec, counts);
    this.#applyToFiles(rec);
  }

  #applyToBlock(rec: WalRecord, i: number, counts: TypeCounts): void {
    const fork = this.#fork(rec, i, rec.blockFlags[i] & BKPBLOCK_FORK_MASK);
    const blkno = rec.blkno[i];
    if (MASKS[rec.xl_rmid] !== undefined) fork.rmids[blkno] = rec.xl_rmid;
    if (rec.holeLen[i] > 0 && hasApplicableImage(rec, i)) fork.hasHoles = true;
    const before = this.#pages.page(fork, blkno);
    const hasImage = (rec.blockFlags[i] & BKPBLOCK_HAS_IMAGE) !== 0;
    if (hasImage) restoreBlockImage(rec, i, this.#image, 0);
    this.#observe?.(rec, i, blockOf(fork, blkno), before);

    const failure = this.#redo(rec, i, fork, blkno, before);
    if (failure !== undefined) {
      counts.mismatch(failure);
      if (hasImage) this.#pages.setPage(fork, blkno, this.#image);
      return;
    }
    if (!hasImage) {
      counts.unverified++;
    } else if (hasApplicableImage(rec, i)) {
      counts.restored++;
    } else {
      counts.checked++;
      const isPinned = isOnlyPinned(rec, i);
      const difference = this.#compare(this.#result, isPinned ? before : this.#image, rec.xl_rmid, blkno);
      if (difference !== undefined) counts.mismatch(`${where(rec, i)}: ${difference}`);
      if (isVisibilityMap(fork)) this.#compareVisibilityMap(rec, i);
      // These go on as redo left them: their images may be from another moment, see #compareVisibilityMap and isOnlyPinned.
      const isOfThisMoment = !isPinned && !isVisibilityMap(fork);
      const keepImage = difference !== undefined || (this.#before === "image" && isOfThisMoment);
      this.#pages.setPage(fork, blkno, keepImage ? this.#image : this.#result);
      return;
    }
    this.#pages.setPage(fork, blkno, this.#result);
  }

  /** Redo of the record, whole and cut down to the block: says what is wrong, or undefined with the page in #result. */
  #redo(rec: WalRecord, i: number, fork: Fork, blkno: number, before: Uint8Array): string | undefined {
    const target = blockOf(fork, blkno);
    try {
      startPage(before);
      applyRecordTo(this.#pg, target, rec.bytes, rec.off, rec.xl_tot_len, rec.endLsn);
      finishPage(this.#result);
      startPage(before);
      const cutLen = this.#cutRecord(rec, i);
      applyRecordTo(this.#pg, target, this.#cut, 0, cutLen, rec.endLsn);
      finishPage(this.#fromCut);
    } catch (error) {
      if (!(error instanceof ZenithError)) throw error;
      return errorMessage(error);
    }
    const at = firstDifference(this.#result, this.#fromCut);
    return at < 0
      ? undefined
      : `${where(rec, i)}: the record cut down to the block gives another page at ${at}`;
  }

  #cutRecord(rec: WalRecord, block: number): number {
    if (this.#cut.length < rec.xl_tot_len) this.#cut = new Uint8Array(2 * rec.xl_tot_len);
    return cutRecord(rec, block, this.#cut, 0);
  }

  /** `unlogged` masks what a file may have and the record's image may not. */
  #compare(
    page: Uint8Array,
    image: Uint8Array,
    rmid: number,
    blkno: number,
    unlogged?: Mask,
  ): string | undefined {
    this.#masked.set(page);
    this.#maskedImage.set(image);
    const mask = MASKS[rmid];
    if (mask !== undefined) {
      try {
        mask(this.#masked, blkno);
        mask(this.#maskedImage, blkno);
        unlogged?.(this.#masked, blkno);
        unlogged?.(this.#maskedImage, blkno);
      } catch (error) {
        return `can't be masked: ${errorMessage(error)}`;
      }
    }
    const at = firstDifference(this.#masked, this.#maskedImage);
    return at < 0 ? undefined : describe(at, this.#masked, this.#maskedImage);
  }

  /**
   * heap_mask blanks a visibility map page's bits, so that a standby never checks them. We do, but for maps with holes, see
   * {@link compareFiles}. A backend clears a bit before
   * it logs why, so in a concurrent workload the image may lack bits that redo clears a little later; never the reverse.
   */
  #compareVisibilityMap(rec: WalRecord, i: number): void {
    const fork = this.#fork(rec, i, VISIBILITYMAP_FORKNUM);
    if (fork.hasHoles) return;
    let missing = -1;
    for (let at = SIZE_OF_PAGE_HEADER; at < BLCKSZ && missing < 0; at++) {
      if ((this.#image[at] & ~this.#result[at]) !== 0) missing = at;
    }
    this.#report.other(
      "visibility map bits",
      missing < 0 ? undefined : `${where(rec, i)}: ${describe(missing, this.#result, this.#image)}`,
    );
  }

  #applyToVisibilityMap(rec: WalRecord, counts: TypeCounts): void {
    visibilityMapChanges(rec, this.#vm);
    for (let i = 0; i < this.#vm.count; i++) {
      const fork = this.#fork(rec, this.#vm.blockReference[i], VISIBILITYMAP_FORKNUM);
      const blkno = this.#vm.vmBlock[i];
      const before = this.#pages.page(fork, blkno);
      const failure = this.#redo(rec, NO_BLOCK, fork, blkno, before);
      if (failure === undefined) this.#pages.setPage(fork, blkno, this.#result);
      else counts.mismatch(`visibility map: ${failure}`);
    }
  }

  /** What records do to whole files. */
  #applyToFiles(rec: WalRecord): void {
    const op = rec.xl_info & XLR_RMGR_INFO_MASK;
    if (rec.xl_rmid === RM_SMGR_ID && op === XLOG_SMGR_TRUNCATE) {
      const { rnode, blkno, flags } = parseSmgrTruncate(rec);
      this.#pages.truncate(this.#pages.fork(rnode.spcNode, rnode.dbNode, rnode.relNode, MAIN_FORKNUM), blkno);
      if ((flags & SMGR_TRUNCATE_VM) !== 0) {
        this.#truncateVisibilityMap(
          this.#pages.fork(rnode.spcNode, rnode.dbNode, rnode.relNode, VISIBILITYMAP_FORKNUM),
          blkno,
        );
      }
    } else if (rec.xl_rmid === RM_DBASE_ID) {
      const record = parseDbase(rec, this.#pg);
      if (record.kind === "create_file_copy") {
        this.#pages.copyDatabase(record.src_db_id, record.db_id, record.tablespace_id);
      }
    } else if (rec.xl_rmid === RM_XACT_ID) {
      this.#dropRelations(rec);
    }
  }

  #truncateVisibilityMap(fork: Fork, heapBlocks: number): void {
    const blocks = visibilityMapBlocksAfterTruncate(heapBlocks);
    this.#pages.truncate(fork, blocks);
    if (blocks === 0 || fork.pages[blocks - 1] === undefined) return;
    startPage(this.#pages.page(fork, blocks - 1));
    redoTruncateVisibilityMap(heapBlocks, blocks - 1);
    finishPage(this.#result);
    this.#pages.setPage(fork, blocks - 1, this.#result);
  }

  #dropRelations(rec: WalRecord): void {
    const op = rec.xl_info & XLOG_XACT_OPMASK;
    if (op === XLOG_XACT_COMMIT || op === XLOG_XACT_COMMIT_PREPARED) {
      for (const rel of parseCommit(rec, this.#pg).xnodes) {
        this.#pages.drop(rel.spcNode, rel.dbNode, rel.relNode);
      }
    } else if (op === XLOG_XACT_ABORT || op === XLOG_XACT_ABORT_PREPARED) {
      for (const rel of parseAbort(rec, this.#pg).xnodes) {
        this.#pages.drop(rel.spcNode, rel.dbNode, rel.relNode);
      }
    }
  }

  /**
   * After the last record and a clean shutdown: compares every page with the data file. Pages that were only ever logged as
   * images are left out, nobody says how to mask them; sequences too, whose records are ahead of them. Here a visibility
   * map must be the same bit for bit, unless
   * CREATE DATABASE has copied it: that logs the map's pages with their bits left out, as if they were free space, and so
   * a standby has fewer of them too.
   */
  compareFiles(dataDir: string): void {
    for (const fork of this.#pages.forks()) {
      if (fork.fork === FSM_FORKNUM) continue;
      const file = relationFile(dataDir, fork.spcNode, fork.dbNode, fork.relNode, fork.fork);
      fork.pages.forEach((page, blkno) => {
        const rmid = fork.rmids[blkno];
        if (page === undefined || rmid === RM_SEQ_ID || rmid === undefined && !isVisibilityMap(fork)) return;
        const stored = readBlock(file, blkno);
        if (stored === undefined) return;
        const difference = isVisibilityMap(fork)
          ? compareBits(page, fork.hasHoles ? common(page, stored) : stored)
          : this.#compare(page, stored, rmid!, blkno, UNLOGGED_MASKS[rmid!]);
        const kind = isVisibilityMap(fork) ? "visibility maps on disk" : "pages on disk";
        this.#report.other(
          kind,
          difference === undefined ? undefined : `${file} block ${blkno}: ${difference}`,
        );
      });
    }
  }

  #fork(rec: WalRecord, i: number, fork: number): Fork {
    return this.#pages.fork(rec.spcNode[i], rec.dbNode[i], rec.relNode[i], fork);
  }
}

function blockOf(fork: Fork, blkno: number): BlockTarget {
  return { spcNode: fork.spcNode, dbNode: fork.dbNode, relNode: fork.relNode, fork: fork.fork, blkno };
}

function where(rec: WalRecord, i: number): string {
  const block = i === NO_BLOCK ? "" : ` block reference ${i}, ${rec.relNode[i]}/${rec.blkno[i]}`;
  return `record at ${formatLsn(rec.lsn as Lsn)}${block}`;
}

function compareBits(page: Uint8Array, stored: Uint8Array): string | undefined {
  const at = firstDifference(page.subarray(SIZE_OF_PAGE_HEADER), stored.subarray(SIZE_OF_PAGE_HEADER));
  return at < 0 ? undefined : describe(at + SIZE_OF_PAGE_HEADER, page, stored);
}

/** Bits that both have. */
function common(a: Uint8Array, b: Uint8Array): Uint8Array {
  return a.map((byte, at) => byte & b[at]);
}

/** -1 when they are equal. */
function firstDifference(a: Uint8Array, b: Uint8Array): number {
  if (Buffer.compare(a, b) === 0) return -1;
  return a.findIndex((byte, at) => byte !== b[at]);
}

function describe(at: number, page: Uint8Array, image: Uint8Array): string {
  const from = at & ~7;
  const hex = (bytes: Uint8Array) => Buffer.from(bytes.subarray(from, from + 16)).toString("hex");
  return `differs at ${at}: from ${from} on redo has ${hex(page)}, PostgreSQL ${hex(image)}`;
}
