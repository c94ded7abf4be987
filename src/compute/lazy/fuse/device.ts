/** The mount's device, by whose descriptor the kernel's requests come and replies go. */
import { closeSync, constants, openSync, readSync, writeSync } from "node:fs";
import { closeFd, openFd, readFd, writeFd } from "./libc.ts";

export const FUSE_DEVICE = "/dev/fuse";

/** Close-on-exec: a Postgres that has inherited the device would keep the mount alive after its server's death. */
const O_CLOEXEC = 0o2000000;
const OPEN_FLAGS = constants.O_RDWR | O_CLOEXEC;

interface DeviceCalls {
  open(): number;
  /** One request. Waits for it. */
  read(fd: number, into: Uint8Array): void;
  /** The first `bytes` bytes: one message. */
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

/** Deno's `node:fs` knows a descriptor only in the thread that has opened it, and the device is used by two. All of them throw system errors. */
export const device: DeviceCalls = "Deno" in globalThis ? BY_LIBC : BY_NODE;
