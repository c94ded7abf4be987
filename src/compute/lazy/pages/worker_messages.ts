import type { ErrorKind } from "../../../common/errors.ts";
import type { ExpectedRead } from "../files/first_reads.ts";
import type { MissedRead } from "../files/fuse_session.ts";
import type { HotRange } from "./hot_pages.ts";
import type { Owner } from "../files/populate.ts";

/** The Worker's `workerData`. */
export interface WorkerData {
  /** Of {@link KeptPages}. */
  readonly keptPages: SharedArrayBuffer;
}

/** The one message that the Worker gets: it serves from then on. */
export interface ServeMessage {
  /** /dev/fuse, mounted. */
  readonly deviceFd: number;
  /** The major of the cluster. */
  readonly pgMajor: number;
  readonly manifest: Uint8Array;
  readonly seedDirectory: string;
  readonly overlayDirectory: string;
  /** Infinity for no bound but the disk's. */
  readonly overlayMaxBytes: number;
  /** What is to be fetched ahead of need, whenever the Worker is woken. */
  readonly prewarm: readonly HotRange[];
  readonly owner: Owner;
}

/** What the Worker is woken for, while it serves: see `wakeMessage`. It says what to fetch ahead of need. */
export const WAKE_TO_PREWARM = 1;
/** It looks at how full the disk is. */
export const WAKE_TO_LOOK_AT_DISK = 2;

/** What the Worker tells. */
export type WorkerMessage =
  /** The kernel and the Worker have agreed on how they talk. With the inode of `pg_control`. */
  | { readonly type: "serving"; readonly controlFile: number }
  | { readonly type: "miss"; readonly miss: MissedRead }
  /** Will be missed soon. */
  | { readonly type: "expected"; readonly reads: readonly ExpectedRead[] }
  /** The answer to being woken, by that inode: what may be missed some day. Nothing when that was all. */
  | { readonly type: "prewarm"; readonly reads: readonly ExpectedRead[]; readonly knownInode: number }
  /** What has been written alone is more than the overlay should hold; 0: not any more. */
  | { readonly type: "overlay full"; readonly writtenBytes: number }
  /** The overlay's disk is full: Postgres is refused to write more. Or is not any more. */
  | { readonly type: "disk low"; readonly isLow: boolean }
  /** The mount is gone, as it is in an orderly stop; what was hot. */
  | { readonly type: "unmounted"; readonly hotPages: readonly HotRange[] }
  /** It can't go on. */
  | { readonly type: "failed"; readonly kind: ErrorKind; readonly message: string };
