/**
 * Limits a merge in its own thread: a maximum of bytes per second, and a pause while pages are
 * read.
 */
import { MergeControl, type MergeRequest } from "../files/merge_request.ts";

/** The maximum of value bytes per second, which leaves disk and second core to others. */
const BYTES_PER_S = 64 << 20;

/**
 * How long a merge stops when somebody has read since its last slice of work, which takes about as
 * long.
 */
const PREEMPTED_MS = 4;

/** It does not make up for more than this of the time in which it was slower than it may be. */
const MAX_BEHIND_MS = 100;

/** The pause function for {@link mergeLayers}: blocks the thread. */
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
