/** A wait that a signal ends. */

/**
 * Settles as `awaited` does, unless the signal is aborted before that. Then a later outcome is
 * ignored.
 *
 * @throws the signal's reason
 */
export async function unlessAborted<T>(awaited: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = (): void => reject(signal.reason);
  signal.addEventListener("abort", abort);
  if (signal.aborted) abort();
  try {
    return await Promise.race([aborted, awaited]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
