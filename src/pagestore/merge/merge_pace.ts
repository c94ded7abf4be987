/**
 * Limits a merge in its own thread: to a maximum of bytes per second, and with a pause while pages
 * are read.
 */
import { MergeControl, type MergeRequest } from "../files/merge_request.ts";

/** The maximum of value bytes per second. It leaves the disk and the second core to others. */
const BYTES_PER_S = 64 << 20;

/**
 * How long a merge pauses when somebody has read since its last slice of work. A slice takes about
 * as long.
 */
const PREEMPTED_MS = 4;

/** A merge that was slower than allowed makes up for no more than this much time. */
const MAX_BEHIND_MS = 100;

/** Returns the pause function for {@link mergeLayers}. It blocks the thread. */
export function pacedMerge(request: MergeRequest): (bytes: number) => void {
  const control = new MergeControl(request.control);
  const { reads } = request;
  let seen = reads === null ? 0 : Atomics.load(reads, 0);
  let dueMs = performance.now();
  return (bytes) => {
    const now = performance.now();
    dueMs = Math.max(dueMs, now - MAX_BEHIND_MS) + bytes / BYTES_PER_S * 1000;
    const count = reads === null ? 0 : Atomics.load(reads, 0);
    const pauseMs = Math.max(dueMs - now, count === seen ? 0 : PREEMPTED_MS);
    seen = count;
    if (pauseMs >= 1) control.sleep(pauseMs);
  };
}
