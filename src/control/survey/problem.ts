/** What is wrong, in words for a person, and what to do about it. */
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { lastErrorInLog } from "../log_file.ts";

export interface Problem {
  readonly what: string;
  /** What to do about it. */
  readonly hint: string;
  /** Whether something that should run does not, or data are damaged. */
  readonly down: boolean;
}

/** What is said of a server that nobody has started, or that was stopped. */
export const NOT_RUNNING = " does not run";

export function problemOf(error: unknown, hint: string, down: boolean): Problem {
  const own = error instanceof ZenithError ? error.hint : undefined;
  return { what: errorMessage(error), hint: own ?? hint, down };
}

/** Why a process ended unexpectedly, as the end of a sentence that begins with its name. */
export function howItEnded(log: string): string {
  const words = lastErrorInLog(log);
  return words === undefined
    ? "was killed, or lost its machine: it left no last words"
    : `broke down: ${words.replace(/^ended: /, "")}`;
}
