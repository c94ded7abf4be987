/** Checks the headers of consecutive WAL pages: XLogReaderValidatePageHeader in xlogreader.c. */
import { WalError } from "./error.ts";
import {
  SIZE_OF_XLOG_LONG_PHD,
  XLOG_BLCKSZ,
  XLP_ALL_FLAGS,
  XLP_INFO,
  XLP_LONG_HEADER,
  XLP_MAGIC,
  XLP_PAGEADDR,
  XLP_SEG_SIZE,
  XLP_SYSID,
  XLP_TLI,
  XLP_XLOG_BLCKSZ,
} from "./page_header.ts";
import type { WalFormat } from "./wal_format.ts";

const TWO_POW_32 = 0x1_0000_0000;

export class PageHeaderCheck {
  readonly #pg: WalFormat;
  readonly #segmentSize: number;
  readonly #systemId: bigint | undefined;
  /** The timeline of the page before: it never goes down. */
  #tli = 0;

  /** @param systemId checked on each segment's first page when given */
  constructor(pg: WalFormat, segmentSize: number, systemId: bigint | undefined) {
    this.#pg = pg;
    this.#segmentSize = segmentSize;
    this.#systemId = systemId;
  }

  /**
   * @param view the header, from its first byte
   * @param headerSize what it must have at `pageLsn`
   * @throws {WalError} when it can't be the header of the page at `pageLsn`
   */
  check(view: DataView, pageLsn: number, headerSize: number): void {
    const magic = view.getUint16(XLP_MAGIC, true);
    const { walPageMagic, major } = this.#pg;
    if (magic !== walPageMagic) {
      throw new WalError(
        pageLsn,
        `page magic is 0x${magic.toString(16)}, expected 0x${
          walPageMagic.toString(16)
        } of PostgreSQL ${major}`,
      );
    }
    const info = view.getUint16(XLP_INFO, true);
    const isLong = (info & XLP_LONG_HEADER) !== 0;
    if ((info & ~XLP_ALL_FLAGS) !== 0 || isLong !== (headerSize === SIZE_OF_XLOG_LONG_PHD)) {
      throw new WalError(pageLsn, `page flags 0x${info.toString(16)} can't be here`);
    }
    const address = view.getUint32(XLP_PAGEADDR + 4, true) * TWO_POW_32 + view.getUint32(XLP_PAGEADDR, true);
    if (address !== pageLsn) {
      throw new WalError(pageLsn, `the page says that it is at 0x${address.toString(16)}`);
    }
    const tli = view.getUint32(XLP_TLI, true);
    if (tli < this.#tli) {
      throw new WalError(pageLsn, `timeline ${tli} after timeline ${this.#tli}`);
    }
    this.#tli = tli;
    if (isLong) this.#checkLong(view, pageLsn);
  }

  #checkLong(view: DataView, pageLsn: number): void {
    const systemId = view.getBigUint64(XLP_SYSID, true);
    if (this.#systemId !== undefined && systemId !== this.#systemId) {
      throw new WalError(
        pageLsn,
        `from another database system: its identifier is ${systemId}, expected ${this.#systemId}`,
      );
    }
    const segmentSize = view.getUint32(XLP_SEG_SIZE, true);
    if (segmentSize !== this.#segmentSize) {
      throw new WalError(pageLsn, `segment size is ${segmentSize}, expected ${this.#segmentSize}`);
    }
    const blockSize = view.getUint32(XLP_XLOG_BLCKSZ, true);
    if (blockSize !== XLOG_BLCKSZ) {
      throw new WalError(pageLsn, `WAL block size is ${blockSize}, expected ${XLOG_BLCKSZ}`);
    }
  }
}
