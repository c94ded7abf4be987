/**
 * The WAL that comes with a base backup: collected in files until all of the backup is there, then
 * checked, then handed to the timeline.
 */
import { join } from "node:path";
import { assert } from "../../common/assert.ts";
import type { Disk, DiskFile } from "../../common/disk.ts";
import { nextTurn } from "../../common/event_loop.ts";
import { withIoErrors, ZenithError } from "../../common/errors.ts";
import { formatLsn, type Lsn } from "../../common/lsn.ts";
import type { PgVersion } from "../../postgres/versions/pg_version.ts";
import { WalDecoder } from "../../postgres/wal/decoder.ts";
import { WalError } from "../../postgres/wal/error.ts";
import {
  segmentOffset,
  segmentStart,
  WAL_TLI,
  walFileName,
  XLOG_BLCKSZ,
  XLP_SYSID,
  XLP_TLI,
} from "../../postgres/wal/page_header.ts";
import { WalRecord } from "../../postgres/wal/record.ts";
import { RM_LOGICALMSG_ID } from "../../postgres/wal/rmgr.ts";
import type { WalStore } from "../../wal_store/wal_store.ts";
import type { WalFiles } from "./base_files.ts";

/** How much is read at once. */
const PIECE_BYTES = 256 << 10;

/** What the WAL in the files belongs to. */
export interface BackupWalFormat {
  readonly pg: PgVersion;
  readonly segmentSize: number;
  readonly systemId: bigint;
  /** The timeline, PostgreSQL's, in the files' names. */
  readonly tli: number;
}

/** Where the WAL in the files ends, and why. */
export interface BackupWalEnd {
  readonly endLsn: Lsn;
  readonly why: string;
}

/** The segment files of one backup, in a directory of their own. */
export class BackupWal implements WalFiles {
  readonly #disk: Disk;
  readonly #directory: string;
  #file: DiskFile | null = null;
  #written = 0;

  /** @param directory exists and is empty */
  constructor(disk: Disk, directory: string) {
    this.#disk = disk;
    this.#directory = directory;
  }

  begin(name: string): void {
    const path = join(this.#directory, name);
    this.#file = withIoErrors("create", path, () => this.#disk.openSync(path, "createNew"));
    this.#written = 0;
  }

  content(bytes: Uint8Array): void {
    const file = this.#file;
    assert(file !== null, "a WAL file has begun");
    withIoErrors("write", file.path, () => file.writeSync(bytes, 0, bytes.length, this.#written));
    this.#written += bytes.length;
  }

  end(): void {
    this.close();
  }

  close(): void {
    this.#file?.closeSync();
    this.#file = null;
  }

  /**
   * Decodes the records from `from` on, as far as there are any.
   *
   * @param from where a record starts
   * @param visit gets each record, which is valid until it returns
   * @throws {ZenithError} `not_found` when not even the first segment is there; `conflict` when it
   *   is of another cluster; what `visit` throws
   */
  async scan(format: BackupWalFormat, from: Lsn, visit: (record: WalRecord) => void): Promise<BackupWalEnd> {
    this.#checkCluster(format, from);
    const { pg, segmentSize, systemId } = format;
    const decoder = new WalDecoder({
      pg,
      startLsn: from,
      segmentSize,
      systemId,
      knownTypesOnly: true,
      zerosAreEnd: true,
      passesOver: (rmid) => rmid === RM_LOGICALMSG_ID,
    });
    const record = new WalRecord();
    try {
      for (const { lsn, bytes } of this.#pieces(format, from)) {
        decoder.feed(bytes, lsn);
        while (decoder.next(record)) visit(record);
        if (decoder.ended) break;
        await nextTurn();
      }
    } catch (error) {
      if (!(error instanceof WalError)) throw error;
      return { endLsn: decoder.endLsn, why: error.message };
    }
    const missing = walFileName(format.tli, decoder.fedLsn, segmentSize);
    const why = decoder.ended ? "no record follows" : `WAL segment ${missing} is not there`;
    return { endLsn: decoder.endLsn, why };
  }

  /**
   * Returns what `read` makes of the record at `lsn`. @throws {ZenithError} `corrupt_data` when
   * there is none
   */
  async recordAt<T>(format: BackupWalFormat, lsn: Lsn, read: (record: WalRecord) => T): Promise<T> {
    let found: { readonly value: T } | undefined;
    const end = await this.scan(format, lsn, (record) => {
      if (record.lsn === lsn) found = { value: read(record) };
      throw STOP;
    }).catch((error) => {
      if (error !== STOP) throw error;
      return { why: "another record is there" };
    });
    if (found !== undefined) return found.value;
    throw new ZenithError("corrupt_data", `there is no WAL record at ${formatLsn(lsn)}: ${end.why}`);
  }

  /**
   * Copies the WAL in `[from, to)` to a timeline's own, as WAL of timeline 1: what follows on it is
   * of that timeline, and page headers must not go back.
   */
  async copyTo(wal: WalStore, format: BackupWalFormat, from: Lsn, to: Lsn): Promise<void> {
    for (const { lsn, bytes } of this.#pieces(format, from)) {
      if (lsn >= to) break;
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      const firstPage = (XLOG_BLCKSZ - lsn % XLOG_BLCKSZ) % XLOG_BLCKSZ;
      for (let page = firstPage; page < bytes.length; page += XLOG_BLCKSZ) {
        view.setUint32(page + XLP_TLI, WAL_TLI, true);
      }
      wal.write(lsn, bytes, 0, Math.min(bytes.length, to - lsn));
      await nextTurn();
    }
    await wal.sync();
  }

  /** @throws {ZenithError} `not_found`, `conflict` */
  #checkCluster(format: BackupWalFormat, lsn: Lsn): void {
    const name = walFileName(format.tli, lsn, format.segmentSize);
    const file = this.#open(format, lsn);
    if (file === null) {
      throw new ZenithError("not_found", `WAL segment ${name} is missing: the backup begins there`, {
        hint:
          "take the backup with its WAL (pg_basebackup -X stream or -X fetch), or name the archive by --wal",
      });
    }
    try {
      const header = new Uint8Array(XLOG_BLCKSZ);
      file.readSync(header, 0, header.length, 0);
      const found = new DataView(header.buffer).getBigUint64(XLP_SYSID, true);
      if (found === format.systemId) return;
      throw new ZenithError(
        "conflict",
        `WAL segment ${name} is of system ${found}, the backup of ${format.systemId}: they are two clusters`,
      );
    } finally {
      file.closeSync();
    }
  }

  #open({ tli, segmentSize }: BackupWalFormat, lsn: Lsn): DiskFile | null {
    const name = walFileName(tli, lsn, segmentSize);
    const path = join(this.#directory, name);
    const stat = this.#disk.statSync(path);
    if (stat === null) return null;
    if (stat.size !== segmentSize) {
      throw new ZenithError(
        "corrupt_data",
        `WAL segment ${name} has ${stat.size} bytes, expected ${segmentSize}`,
      );
    }
    return withIoErrors("open", path, () => this.#disk.openSync(path, "read"));
  }

  /**
   * Yields the WAL from `from` on, until a segment is missing. A piece is valid until the next one.
   */
  *#pieces(format: BackupWalFormat, from: Lsn): Generator<{ lsn: Lsn; bytes: Uint8Array }> {
    const { segmentSize } = format;
    const piece = new Uint8Array(PIECE_BYTES);
    let at = from;
    for (;;) {
      const file = this.#open(format, at);
      if (file === null) return;
      try {
        const end = segmentStart(at, segmentSize) + segmentSize;
        while (at < end) {
          const offset = segmentOffset(at, segmentSize);
          // Later pieces begin at a page.
          const length = Math.min(piece.length - at % XLOG_BLCKSZ, segmentSize - offset);
          const count = withIoErrors("read", file.path, () => file.readSync(piece, 0, length, offset));
          assert(count === length, "a segment has the size that it had when it was opened");
          yield { lsn: at, bytes: piece.subarray(0, count) };
          at = (at + count) as Lsn;
        }
      } finally {
        file.closeSync();
      }
    }
  }
}

/** Ends a scan. */
const STOP = new Error("enough");
