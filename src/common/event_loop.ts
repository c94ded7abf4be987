import { setImmediate } from "node:timers";

/** Resolves when whatever else this thread has to do has had its turn. To be awaited now and then in work that takes long. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
