/** Defers a signal that asks a command to end, until what it has made can be removed. */
import { ZenithError } from "../../common/errors.ts";

const INTERRUPTIONS: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM", "SIGHUP"];

/**
 * While it exists, SIGINT, SIGTERM and SIGHUP don't end this process. An immediate exit would leave
 * behind what no other command removes: a running initdb, a page server or a throw-away branch.
 */
export class Interruption implements Disposable {
  readonly #outcome: string;
  #signal: NodeJS.Signals | undefined;
  readonly #happened = Promise.withResolvers<never>();
  readonly #onSignal = (signal: NodeJS.Signals): void => {
    this.#signal ??= signal;
    this.#happened.reject(this.#error(this.#signal));
  };

  /** @param outcome how things are once the command has ended */
  constructor(outcome: string) {
    this.#outcome = outcome;
    this.#happened.promise.catch(() => {});
    for (const signal of INTERRUPTIONS) process.on(signal, this.#onSignal);
  }

  [Symbol.dispose](): void {
    for (const signal of INTERRUPTIONS) process.off(signal, this.#onSignal);
  }

  #error(signal: NodeJS.Signals): ZenithError {
    return new ZenithError("unavailable", `ended by ${signal}: ${this.#outcome}`);
  }

  /** @throws {ZenithError} `unavailable` when a signal has arrived */
  throwIfAsked(): void {
    if (this.#signal !== undefined) throw this.#error(this.#signal);
  }

  /** Waits for `work`, or for a signal. @throws {ZenithError} `unavailable` after a signal */
  async unlessAsked<T>(work: Promise<T>): Promise<T> {
    return await Promise.race([this.#happened.promise, work]);
  }
}
