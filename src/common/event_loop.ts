/** Lets long work share its thread with everything else that runs there. */
import { setImmediate } from "node:timers";

/** Resolves after this thread's other pending work has run. Long work awaits it now and then. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
