/**
 * Assertions that stay on in production. A failed one is a bug in Zenith, never bad input: bad
 * input is a {@link ZenithError}.
 */
export class AssertionError extends Error {
  override name = "AssertionError";
}

/**
 * Throws unless `condition` holds. Stays on in production: a storage server that has lost track of
 * its state must stop.
 *
 * Keep `message` a plain string on hot paths; building one per call costs more than the check.
 *
 * @throws {AssertionError} when `condition` is false
 */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}
