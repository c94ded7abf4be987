/** Linux error numbers, and the error that carries one. */
import { systemErrorCode } from "../../../common/errors.ts";

// Linux error numbers: include/uapi/asm-generic/errno-base.h and errno.h.
export const ENOENT = 2;
export const EIO = 5;
export const EEXIST = 17;
export const ENOTDIR = 20;
export const EISDIR = 21;
export const EINVAL = 22;
export const ENOSPC = 28;
export const ENOSYS = 38;
export const ENOTEMPTY = 39;
export const EOPNOTSUPP = 95;

/** Thrown by the file system's operations to reply to one request with this error. */
export class FileSystemError extends Error {
  override name = "FileSystemError";
  readonly errno: number;

  constructor(errno: number, message: string) {
    super(message);
    this.errno = errno;
  }
}

/**
 * Whether to read from /dev/fuse again after this error of read(2): the request was withdrawn, or a
 * signal came.
 */
export function isTransientDeviceError(error: unknown): boolean {
  const code = systemErrorCode(error);
  return code === "ENOENT" || code === "EINTR" || code === "EAGAIN";
}

/** Whether the error means that the mount is gone. */
export function isUnmounted(error: unknown): boolean {
  return systemErrorCode(error) === "ENODEV";
}
