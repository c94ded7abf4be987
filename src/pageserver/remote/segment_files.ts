/** Writes a timeline's WAL to segment files, as it comes back from an object store. */
import { join } from "node:path";
import type { Disk, DiskFile } from "../../common/disk.ts";
import { ioError } from "../../common/errors.ts";
import type { Lsn } from "../../common/lsn.ts";
import { segmentOffset, segmentStart, WAL_TLI, walFileName } from "../../postgres/wal/page_header.ts";
import type { WalPiece } from "./wal_piece.ts";

/**
 * The segments of one directory, written in order. They are whole, as everywhere: what is never
 * written of them reads as zeros.
 */
export class SegmentFiles {
  readonly #disk: Disk;
  readonly #directory: string;
  #file: DiskFile | null = null;
  #name = "";

  constructor(disk: Disk, directory: string) {
    this.#disk = disk;
    this.#directory = directory;
  }

  /**
   * Writes a piece's WAL from `startLsn` to `endLsn`.
   *
   * @throws {ZenithError} `disk_full`, `io`
   */
  async write({ wal, segmentSize, ...piece }: WalPiece, startLsn: Lsn, endLsn: Lsn): Promise<void> {
    for (let at: Lsn = startLsn; at < endLsn;) {
      const segment = segmentStart(at, segmentSize);
      const end = Math.min(endLsn, segment + segmentSize) as Lsn;
      const path = join(this.#directory, walFileName(WAL_TLI, segment, segmentSize));
      try {
        const file = await this.#open(path, segmentSize);
        const from = at - piece.startLsn;
        file.writeSync(wal, from, end - at, segmentOffset(at, segmentSize));
      } catch (error) {
        throw ioError("write", path, error);
      }
      at = end;
    }
  }

  async #open(path: string, size: number): Promise<DiskFile> {
    if (this.#file !== null && this.#name === path) return this.#file;
    await this.settle();
    this.close();
    const file = this.#disk.openSync(path, "create");
    this.#file = file;
    this.#name = path;
    file.truncateSync(size);
    return file;
  }

  /** Makes what was written last durable; the segments before it are. */
  async settle(): Promise<void> {
    await this.#file?.fsync();
  }

  close(): void {
    this.#file?.closeSync();
    this.#file = null;
  }
}
