/**
 * Reads of layers that are not on this disk. Reads are synchronous, so they can't wait: one that
 * meets bytes which have to be fetched throws, and is repeated as a whole once they are here.
 */
import { ZenithError } from "../../common/errors.ts";
import { unlessAborted } from "../../common/unless_aborted.ts";

/** Says that bytes are not here, and can fetch them. */
export class AbsentBytes extends ZenithError {
  override name = "AbsentBytes";
  readonly #fetch: () => Promise<void>;

  /** @param fetch rejects with the reason why they can't be had */
  constructor(what: string, fetch: () => Promise<void>) {
    super("unavailable", `${what} is not here, and is being fetched`, { hint: "ask again" });
    this.#fetch = fetch;
  }

  /**
   * Fetches what is missing. Whoever asks for the same at the same time shares one fetch.
   *
   * @param signal ends the wait, not the fetch
   * @throws {ZenithError} `unavailable`, `corrupt_data`, `disk_full`, `io`; the signal's reason
   */
  async arrive(signal?: AbortSignal): Promise<void> {
    const fetched = this.#fetch();
    await (signal === undefined ? fetched : unlessAborted(fetched, signal));
  }
}

/**
 * Collects what several reads lack, so that all of it is fetched at once. Each read is tried, also
 * after one has failed.
 */
export class AbsentOnes {
  readonly #absent: AbsentBytes[] = [];

  /** @returns undefined when the read lacks something */
  try<T>(read: () => T): T | undefined {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof AbsentBytes)) throw error;
      this.#absent.push(error);
      return undefined;
    }
  }

  /** @throws {AbsentBytes} when any of the reads lacked something */
  check(): void {
    const all = this.all();
    if (all !== null) throw all;
  }

  /** What the reads lacked. Null when that is nothing. */
  all(): AbsentBytes | null {
    const [first, ...others] = this.#absent;
    if (first === undefined) return null;
    if (others.length === 0) return first;
    return new AbsentBytes(`what ${this.#absent.length} reads need`, async () => {
      await Promise.all(this.#absent.map((absent) => absent.arrive()));
    });
  }
}

/**
 * Repeats a read until everything that it needs is here.
 *
 * @param read changes nothing when it throws {@link AbsentBytes}
 * @throws what `read` throws, and as {@link AbsentBytes.arrive}
 */
export async function whenPresent<T>(read: () => T, signal?: AbortSignal): Promise<T> {
  const reading = presentIn(read);
  let step = reading.next();
  for (; step.done !== true; step = reading.next()) await step.value.arrive(signal);
  return step.value;
}

/** Like {@link whenPresent}, for generators whose caller fetches what they yield. */
export function* presentIn<T>(read: () => T): Generator<AbsentBytes, T> {
  for (;;) {
    let absent: AbsentBytes;
    try {
      return read();
    } catch (error) {
      if (!(error instanceof AbsentBytes)) throw error;
      absent = error;
    }
    yield absent;
  }
}
