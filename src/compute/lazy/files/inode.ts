/** Files, directories and symbolic links of the mount. */
import type { Lsn } from "../../../common/lsn.ts";
import type { Presence } from "./presence.ts";

// File types in st_mode (sys/stat.h), and as DT_* in directory entries: the same bits, shifted.
export const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
export const S_IFLNK = 0o120000;
export const PERMISSION_BITS = 0o7777;

/** The source of a file's untouched blocks: a relation, or WAL. */
export type RemoteFile = RemoteRelation | RemoteSegment;

export interface RemoteRelation {
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
  readonly fork: number;
  /** The block of the fork with which the file begins. Files are segments of 1 GiB. */
  readonly firstBlock: number;
}

export interface RemoteSegment {
  /** Where the WAL segment begins. */
  readonly walStart: Lsn;
}

/**
 * A file, directory or symbolic link. It is one object for as long as it has a name or the kernel
 * knows it.
 */
export interface Inode {
  /** Never reused for another inode. */
  readonly id: number;
  mode: number;
  uid: number;
  gid: number;
  mtimeSec: number;
  mtimeNsec: number;
  /** 0 once the file has no name any more. */
  nlink: number;
  /** The size in bytes, as far as it was written back. The kernel knows the current one. */
  size: number;
  /** How many times the kernel has been told about the inode without having forgotten it. */
  lookups: number;
  /**
   * Whether the file may take more and more of the disk. The few files that come with the
   * basebackup don't.
   */
  readonly grows: boolean;
  /** A directory's children. */
  readonly children: Map<string, Inode> | null;
  /** A symbolic link's target. */
  readonly target: string;
  readonly remote: RemoteFile | null;
  /**
   * How many bytes from the file's start come from the page server, unless {@link presence} says
   * that the overlay has them. It only ever shrinks, by truncation. Everything after it is in the
   * overlay.
   */
  remoteEnd: number;
  /** Null until the overlay has some of those bytes. */
  presence: Presence | null;
  /**
   * How many bytes the file takes in the overlay, and how many of them are clean, as `OverlaySpace`
   * last noted.
   */
  heldBytes: number;
  heldCleanBytes: number;
}
