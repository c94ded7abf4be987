import type { Presence } from "./presence.ts";

// File types in st_mode (sys/stat.h), and as DT_* in directory entries: the same bits, shifted.
export const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
export const S_IFLNK = 0o120000;
export const PERMISSION_BITS = 0o7777;

/** Where a file's untouched blocks come from. */
export interface RemoteFile {
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
  readonly fork: number;
  /** The fork's block that is the file's first: files are segments of 1 GiB. */
  readonly firstBlock: number;
}

/** A file, directory or symbolic link. One object each, for as long as it has a name or the kernel knows it. */
export interface Inode {
  /** Never used again for another. */
  readonly id: number;
  mode: number;
  uid: number;
  gid: number;
  mtimeSec: number;
  mtimeNsec: number;
  /** 0 once it has no name any more. */
  nlink: number;
  /** Bytes, as far as write-back has come: the kernel knows better. */
  size: number;
  /** How many times the kernel has been told of it and has not forgotten it. */
  lookups: number;
  /** Whether it may take more and more of the disk: not so the few files that come with the basebackup. */
  readonly grows: boolean;
  /** Of a directory. */
  readonly children: Map<string, Inode> | null;
  /** Of a symbolic link. */
  readonly target: string;
  readonly remote: RemoteFile | null;
  /**
   * Bytes from the file's start that come from the page server unless {@link presence} says that the overlay has them. It only
   * ever shrinks, by truncation; what is behind it is the overlay's.
   */
  remoteEnd: number;
  /** null until the overlay has something of the remote part. */
  presence: Presence | null;
  /** Bytes that it takes of the overlay, and how many of these are clean: as `OverlaySpace` has last noted. */
  heldBytes: number;
  heldCleanBytes: number;
}
