/** The messages between a lazy compute and its serving thread. */
import type { ErrorKind } from "../../../common/errors.ts";
import type { ExpectedRead } from "../files/first_reads.ts";
import type { MissedRead } from "../files/fuse_session.ts";
import type { HotRange } from "./hot_pages.ts";
import type { Owner } from "../files/populate.ts";
import type { SegmentRange } from "../../postgres/slot_wal.ts";

/** The only message to the Worker. It serves until the mount is gone, then waits for the next. */
export interface ServeMessage {
  /** The mounted /dev/fuse. */
  readonly deviceFd: number;
  /** The cluster's PostgreSQL major. */
  readonly pgMajor: number;
  readonly manifest: Uint8Array;
  readonly seedDirectory: string;
  readonly overlayDirectory: string;
  /** Infinity when only the disk limits it. */
  readonly overlayMaxBytes: number;
  /** What to fetch ahead of need, whenever the Worker is woken. */
  readonly prewarm: readonly HotRange[];
  /** WAL segments that are fetched when somebody reads them. */
  readonly wal: SegmentRange | null;
  readonly owner: Owner;
  /** The memory of {@link KeptPages}. */
  readonly keptPages: SharedArrayBuffer;
}

/**
 * Reasons to wake the Worker while it serves (see `wakeMessage`). This one: to list what to fetch
 * ahead of need.
 */
export const WAKE_TO_PREWARM = 1;
/** To check how full the disk is. */
export const WAKE_TO_LOOK_AT_DISK = 2;

/** The Worker's reports. */
export type WorkerMessage =
  /** The kernel and the Worker have agreed on the protocol. Has the inode of `pg_control`. */
  | { readonly type: "serving"; readonly controlFile: number }
  | { readonly type: "miss"; readonly miss: MissedRead }
  /** Reads that are expected soon. */
  | { readonly type: "expected"; readonly reads: readonly ExpectedRead[] }
  /**
   * The reply to being woken, through that inode: what may be missed some day. Empty when there is
   * nothing more.
   */
  | { readonly type: "prewarm"; readonly reads: readonly ExpectedRead[]; readonly knownInode: number }
  /** The data written only here exceeds what the overlay should hold. 0 when it no longer does. */
  | { readonly type: "overlay full"; readonly writtenBytes: number }
  /** The overlay's disk is full, so Postgres may not write more, or it is no longer full. */
  | { readonly type: "disk low"; readonly isLow: boolean }
  /** The mount is gone, as after an orderly stop. Has what was hot. */
  | { readonly type: "unmounted"; readonly hotPages: readonly HotRange[] }
  /** The Worker can't continue. */
  | { readonly type: "failed"; readonly kind: ErrorKind; readonly message: string };
