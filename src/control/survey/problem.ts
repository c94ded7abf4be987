/** Describes problems to the user, with what to do about them. */
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { lastErrorInLog } from "../log_file.ts";

export interface Problem {
  readonly what: string;
  /** What to do about it. */
  readonly hint: string;
  /** Whether something that should run doesn't, or data is damaged. */
  readonly down: boolean;
}

/** Ends the message about a server that was stopped or never started. */
export const NOT_RUNNING = " does not run";

export function problemOf(error: unknown, hint: string, down: boolean): Problem {
  const own = error instanceof ZenithError ? error.hint : undefined;
  return { what: errorMessage(error), hint: own ?? hint, down };
}

/** Says why a process ended unexpectedly, as the rest of a sentence that begins with its name. */
export function howItEnded(log: string): string {
  const words = lastErrorInLog(log);
  return words === undefined
    ? "was killed, or lost its machine: it left no last words"
    : `broke down: ${words.replace(/^ended: /, "")}`;
}
