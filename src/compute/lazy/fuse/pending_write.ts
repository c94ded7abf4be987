/** Finds out what a waiting process is about to write. */
import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { assert } from "../../../common/assert.ts";
import { cachedFileSize } from "./libc.ts";

/**
 * The numbers of the system calls with which PostgreSQL writes relation files. PostgreSQL 16 and
 * later extend them with the vectored one.
 */
const WRITE_CALLS: Readonly<Record<string, { readonly pwrite64: number; readonly pwritev: number }>> = {
  x64: { pwrite64: 18, pwritev: 296 },
  arm64: { pwrite64: 68, pwritev: 70 },
};

/** What a process that waits in pwrite(2) or pwritev(2) is about to write. */
export interface PendingWrite {
  readonly offset: number;
  readonly bytes: number;
  /** The file's length according to the kernel, which knows of more than was written back. */
  readonly fileSize: number;
}

/**
 * How long to wait for the process to be asleep. One that has just asked may not be yet, and until
 * then its call can't be seen.
 */
const ASLEEP_TIMEOUT_MS = 50;

/** @returns undefined when it is in another call, or in none that we can see */
export function pendingWrite(pid: number): PendingWrite | undefined {
  try {
    // proc_pid_syscall(5): the call's number, then its arguments in hexadecimal: descriptor, buffer
    // or vector, its length, offset.
    const [number, fd, buffer, length, offset] = systemCall(pid).split(" ").map(Number);
    const bytes = pendingBytes(pid, number!, buffer!, length!);
    if (bytes === undefined) return undefined;
    // The kernel must answer from its cache: it must not ask us while we are answering it.
    return { offset: offset!, bytes, fileSize: cachedFileSize(`/proc/${pid}/fd/${fd}`) };
  } catch {
    return undefined;
  }
}

/** Returns undefined when it is neither call. */
function pendingBytes(pid: number, call: number, buffer: number, length: number): number | undefined {
  const calls = WRITE_CALLS[process.arch];
  if (call === calls?.pwrite64) return length;
  return call === calls?.pwritev ? vectorBytes(pid, buffer, length) : undefined;
}

/** struct iovec: an address and a length, 8 bytes each. */
const IOVEC_BYTES = 16;
/** IOV_MAX, include/uapi/linux/uio.h. The kernel accepts no more. */
const IOVEC_MAX_COUNT = 1024;

/**
 * Returns the sum of the lengths of the `count` iovecs at `address` in a process's memory:
 * proc_pid_mem(5).
 */
function vectorBytes(pid: number, address: number, count: number): number {
  const vector = new Uint8Array(IOVEC_BYTES * Math.min(count, IOVEC_MAX_COUNT));
  const memory = openSync(`/proc/${pid}/mem`, "r");
  try {
    assert(
      readSync(memory, vector, 0, vector.length, address) === vector.length,
      "the vector is the process's",
    );
  } finally {
    closeSync(memory);
  }
  const view = new DataView(vector.buffer);
  let bytes = 0;
  for (let at = 8; at < vector.length; at += IOVEC_BYTES) bytes += Number(view.getBigUint64(at, true));
  return bytes;
}

function systemCall(pid: number): string {
  const deadline = performance.now() + ASLEEP_TIMEOUT_MS;
  for (;;) {
    const text = readFileSync(`/proc/${pid}/syscall`, "utf8");
    if (!text.startsWith("running") || performance.now() > deadline) return text;
  }
}
