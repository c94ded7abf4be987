/** Asks a server for its status, with a time limit. */
import { errorMessage } from "../../common/errors.ts";
import { inTime } from "../../common/in_time.ts";

/** A server that takes longer than this to answer has a problem. */
const ANSWER_TIMEOUT_MS = 5_000;

/** Returns the server's answer, or the error message when there is none. */
export async function ask<T>(question: () => Promise<T>): Promise<{ answer?: T; error?: string }> {
  try {
    return { answer: await answerInTime(question) };
  } catch (error) {
    return { error: errorMessage(error) };
  }
}

/**
 * Returns the server's answer.
 *
 * @throws {ZenithError} `timeout` when it takes too long: the server may be frozen
 */
export function answerInTime<T>(question: () => Promise<T>): Promise<T> {
  return inTime(question(), ANSWER_TIMEOUT_MS, `no answer within ${ANSWER_TIMEOUT_MS / 1000} s`);
}
