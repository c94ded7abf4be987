import { readFileSync } from "node:fs";
import { cachedFileSize } from "./libc.ts";

/** `__NR_pwrite64`, by which PostgreSQL 15 writes relation files. */
const PWRITE64: Readonly<Record<string, number>> = { x64: 18, arm64: 68 };

/** What a process that waits in pwrite(2) is about to write. */
export interface PendingWrite {
  readonly offset: number;
  readonly bytes: number;
  /** The file's length, of which the kernel knows more than has been written back. */
  readonly fileSize: number;
}

/** A process that has just asked may not be asleep yet, and what it is at can't be seen until then. */
const ASLEEP_TIMEOUT_MS = 50;

/** @returns undefined when it is another call, or not for us to know */
export function pendingWrite(pid: number): PendingWrite | undefined {
  try {
    // proc_pid_syscall(5): the call's number, then its arguments in hexadecimal: descriptor, buffer, count, offset.
    const [number, fd, , count, offset] = systemCall(pid).split(" ").map(Number);
    if (number !== PWRITE64[process.arch]) return undefined;
    // By what the kernel knows already: it must not ask us, who are answering it.
    return { offset: offset!, bytes: count!, fileSize: cachedFileSize(`/proc/${pid}/fd/${fd}`) };
  } catch {
    return undefined;
  }
}

function systemCall(pid: number): string {
  const deadline = performance.now() + ASLEEP_TIMEOUT_MS;
  for (;;) {
    const text = readFileSync(`/proc/${pid}/syscall`, "utf8");
    if (!text.startsWith("running") || performance.now() > deadline) return text;
  }
}
