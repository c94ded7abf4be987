/** The messages between a lazy compute and its serving thread. */
import type { ErrorKind } from "../../../common/errors.ts";
import type { ExpectedRead } from "../files/first_reads.ts";
import type { MissedRead } from "../files/fuse_session.ts";
import type { HotRange } from "./hot_pages.ts";
import type { Owner } from "../files/populate.ts";

/** The Worker's `workerData`. */
export interface WorkerData {
  /** The memory of {@link KeptPages}. */
  readonly keptPages: SharedArrayBuffer;
}

/** The only message that the Worker receives: it serves from then on. */
export interface ServeMessage {
  /** /dev/fuse, mounted. */
  readonly deviceFd: number;
  /** The major of the cluster. */
  readonly pgMajor: number;
  readonly manifest: Uint8Array;
  readonly seedDirectory: string;
  readonly overlayDirectory: string;
  /** Infinity when only the disk is the bound. */
  readonly overlayMaxBytes: number;
  /** What to fetch ahead of need, whenever the Worker is woken. */
  readonly prewarm: readonly HotRange[];
  readonly owner: Owner;
}

/**
 * Why the Worker is woken while it serves (see `wakeMessage`): to say what to fetch ahead of need.
 */
export const WAKE_TO_PREWARM = 1;
/** To check how full the disk is. */
export const WAKE_TO_LOOK_AT_DISK = 2;

/** What the Worker reports. */
export type WorkerMessage =
  /** The kernel and the Worker have agreed on the protocol. With the inode of `pg_control`. */
  | { readonly type: "serving"; readonly controlFile: number }
  | { readonly type: "miss"; readonly miss: MissedRead }
  /** Reads that are expected soon. */
  | { readonly type: "expected"; readonly reads: readonly ExpectedRead[] }
  /**
   * The reply to being woken, through that inode: what may be missed some day. Empty when that was
   * all.
   */
  | { readonly type: "prewarm"; readonly reads: readonly ExpectedRead[]; readonly knownInode: number }
  /** The data written only here exceeds what the overlay should hold; 0: it no longer does. */
  | { readonly type: "overlay full"; readonly writtenBytes: number }
  /** The overlay's disk is full and Postgres may not write more; or it is no longer full. */
  | { readonly type: "disk low"; readonly isLow: boolean }
  /** The mount is gone, as in an orderly stop. With what was hot. */
  | { readonly type: "unmounted"; readonly hotPages: readonly HotRange[] }
  /** It can't continue. */
  | { readonly type: "failed"; readonly kind: ErrorKind; readonly message: string };
