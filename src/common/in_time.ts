/** Gives up on an answer that takes too long. */
import { ZenithError } from "./errors.ts";

/**
 * Settles as `answer` does, unless that takes longer than `ms`; what it does later is ignored.
 *
 * @param late the message of the error then
 * @throws {ZenithError} `timeout`
 */
export async function inTime<T>(answer: Promise<T>, ms: number, late: string): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new ZenithError("timeout", late)), ms);
  });
  try {
    return await Promise.race([answer, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
