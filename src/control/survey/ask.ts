/** Asks a server for its status, with a time limit. */
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { inTime } from "../../common/in_time.ts";

/** A server that takes longer than this to answer has a problem. */
const ANSWER_TIMEOUT_MS = 5_000;

/** The server's answer, or the error message when there is none. */
export interface Asked<T> {
  readonly answer?: T;
  readonly error?: string;
  /** Whether there is a server, which does not trust us. */
  readonly refused?: boolean;
}

export async function ask<T>(question: () => Promise<T>): Promise<Asked<T>> {
  try {
    return { answer: await answerInTime(question) };
  } catch (error) {
    return {
      error: errorMessage(error),
      refused: error instanceof ZenithError && error.kind === "forbidden",
    };
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
