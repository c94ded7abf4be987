/** What a major writes to the WAL, where majors differ. */
import type { ClusterFormat } from "../cluster/cluster_format.ts";

export interface WalFormat extends ClusterFormat {
  /** XLOG_PAGE_MAGIC, src/include/access/xlog_internal.h. */
  readonly walPageMagic: number;
  /**
   * bimg_info as WalRecord.imageInfo has it, by the byte in the record; UNKNOWN_IMAGE_INFO for
   * impossible bytes.
   */
  readonly imageInfo: Uint8Array;
  /** The XACT_XINFO_* and XACT_COMPLETION_* bits that exist. */
  readonly xinfoBits: number;
  /** sizeof(xl_xact_stats_item); 0 for majors without such items. */
  readonly statsItemBytes: number;
  /** Bytes of a page number in the records of pg_xact, pg_multixact and pg_commit_ts. */
  readonly slruPageNumberBytes: 4 | 8;
  /** The type of each Database record at the index `xl_info >> 4`. */
  readonly dbaseRecords: readonly DbaseRecordKind[];
  readonly recordTypeNames: RecordTypeNames;
}

/**
 * A copy of every file of another database in one record; an empty database; removal of
 * directories.
 */
export type DbaseRecordKind = "create_file_copy" | "create_wal_log" | "drop";

/**
 * Record type names by resource manager, at the index `xl_info >> 4`; "" where there is no such
 * type.
 */
export type RecordTypeNames = readonly (readonly string[])[];

/** In {@link WalFormat.imageInfo}: no image has these flags. */
export const UNKNOWN_IMAGE_INFO = 0xff;
