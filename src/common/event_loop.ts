/** Lets a long computation share its thread with other work. */
import { setImmediate } from "node:timers";

/**
 * Resolves after this thread's other pending work has run. A long computation awaits it now and
 * then.
 */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
