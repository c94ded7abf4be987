/** Wakes the thread that serves the mount. */
import { systemErrorCode } from "../../../common/errors.ts";
import { device } from "./device.ts";
import { isUnmounted } from "./errno.ts";
import { wakeMessage } from "./protocol.ts";

/**
 * Wakes the serving thread. It waits only for the kernel, so this makes the kernel send it a
 * request.
 *
 * @param knownInode a regular file that the kernel knows
 * @param purpose the reason: `WAKE_TO_…`
 * @returns false when the kernel does not know the file any more, so that the thread sleeps on
 */
export function wakeThread(deviceFd: number, knownInode: number, purpose: number): boolean {
  const message = wakeMessage(knownInode, purpose);
  try {
    device.write(deviceFd, message, message.length);
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return false;
    // The mount is gone, so the thread doesn't sleep.
    if (!isUnmounted(error)) throw error;
  }
  return true;
}
