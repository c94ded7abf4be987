/**
 * Reads and writes the mount's device, through which the kernel's requests and the replies pass.
 */
import { closeSync, constants, openSync, readSync, writeSync } from "node:fs";
import { closeFd, openFd, readFd, writeFd } from "./libc.ts";

export const FUSE_DEVICE = "/dev/fuse";

/**
 * Close-on-exec. A Postgres that inherited the device would keep the mount alive after the death of
 * its server.
 */
const O_CLOEXEC = 0o2000000;
const OPEN_FLAGS = constants.O_RDWR | O_CLOEXEC;

interface DeviceCalls {
  open(): number;
  /** Reads one request. Blocks until there is one. */
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
 * The calls for this runtime, which all throw system errors. Deno's `node:fs` knows a descriptor
 * only in the thread that opened it, but two threads use the device.
 */
export const device: DeviceCalls = "Deno" in globalThis ? BY_LIBC : BY_NODE;
