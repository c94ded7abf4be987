/**
 * Reads and writes the mount's device, whose descriptor carries the kernel's requests and the
 * replies.
 */
import { closeSync, constants, openSync, readSync, writeSync } from "node:fs";
import { closeFd, openFd, readFd, writeFd } from "./libc.ts";

export const FUSE_DEVICE = "/dev/fuse";

/**
 * Close-on-exec: a Postgres that inherited the device would keep the mount alive after its server's
 * death.
 */
const O_CLOEXEC = 0o2000000;
const OPEN_FLAGS = constants.O_RDWR | O_CLOEXEC;

interface DeviceCalls {
  open(): number;
  /** Reads one request; blocks until there is one. */
  read(fd: number, into: Uint8Array): void;
  /** Writes the first `bytes` bytes as one message. */
  write(fd: number, from: Uint8Array, bytes: number): void;
  close(fd: number): void;
}

const BY_NODE: DeviceCalls = {
  open: () => openSync(FUSE_DEVICE, OPEN_FLAGS),
  read: (fd, into) => readSync(fd, into, 0, into.length, null),
  write: (fd, from, bytes) => writeSync(fd, from, 0, bytes, null),
  close: closeSync,
};

const BY_LIBC: DeviceCalls = {
  open: () => openFd(FUSE_DEVICE, OPEN_FLAGS),
  read: readFd,
  write: writeFd,
  close: closeFd,
};

/**
 * Deno's `node:fs` knows a descriptor only in the thread that opened it, and two threads use the
 * device. All of them throw system errors.
 */
export const device: DeviceCalls = "Deno" in globalThis ? BY_LIBC : BY_NODE;
