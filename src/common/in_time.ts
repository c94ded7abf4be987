/** A time limit for an answer. */
import { ZenithError } from "./errors.ts";

/**
 * Settles as `answer` does, unless that takes longer than `ms`. Then a later outcome is ignored.
 *
 * @param late the message of the time-out error
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
