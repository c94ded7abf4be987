/** Keeps what a process knows out of core dumps, and from other processes of its user. */
import { libc } from "./libc.ts";

/** linux/prctl.h. */
const PR_GET_DUMPABLE = 3;
const PR_SET_DUMPABLE = 4;

/**
 * From now on the kernel writes no core dump of this process, whatever limits and core_pattern(5)
 * say, and only root may look into its memory. Programs that it starts are not affected: execve(2)
 * resets it.
 *
 * @returns whether that is so; false when there is no C library to call
 */
export function forbidCoreDumps(): boolean {
  return libc()?.prctl(PR_SET_DUMPABLE, 0) === 0;
}

/** Takes back {@link forbidCoreDumps}. */
export function allowCoreDumps(): void {
  libc()?.prctl(PR_SET_DUMPABLE, 1);
}

/** Whether the kernel would write one. */
export function mayDumpCore(): boolean {
  return libc()?.prctl(PR_GET_DUMPABLE, 0) !== 0;
}
