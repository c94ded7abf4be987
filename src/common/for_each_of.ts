/** Does something for each of many, some at a time. */

/**
 * Calls `work` for each item, in order, at most `limit` of them at a time. After a failure, no more
 * are begun.
 *
 * @throws the first failure, once none is running any more
 */
export async function forEachOf<T>(
  items: Iterable<T>,
  limit: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const waiting = items[Symbol.iterator]();
  let hasFailed = false;
  let failure: unknown;
  const worker = async (): Promise<void> => {
    while (!hasFailed) {
      const next = waiting.next();
      if (next.done === true) return;
      try {
        await work(next.value);
      } catch (error) {
        if (!hasFailed) failure = error;
        hasFailed = true;
      }
    }
  };
  await Promise.all(Array.from({ length: limit }, worker));
  if (hasFailed) throw failure;
}
