import { systemErrorCode } from "../../../common/errors.ts";
import { device } from "./device.ts";
import { isUnmounted } from "./errno.ts";
import { wakeMessage } from "./protocol.ts";

/**
 * Wakes the serving thread, which waits for the kernel and nothing else: the kernel is made to send it a request.
 *
 * @param knownInode a regular file that the kernel knows
 * @param purpose what for: `WAKE_TO_…`
 * @returns false when the kernel does not know the file any more, and the thread sleeps on
 */
export function wakeThread(deviceFd: number, knownInode: number, purpose: number): boolean {
  const message = wakeMessage(knownInode, purpose);
  try {
    device.write(deviceFd, message, message.length);
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return false;
    // Then nobody sleeps.
    if (!isUnmounted(error)) throw error;
  }
  return true;
}
