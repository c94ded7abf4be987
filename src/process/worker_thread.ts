/**
 * Runs work in another thread, one request and one reply at a time. `postMessage` must be able to
 * clone both. Shared memory is passed without a copy.
 */
import { parentPort, type Transferable, Worker } from "node:worker_threads";
import { assert } from "../common/assert.ts";
import { type ErrorKind, errorMessage, ZenithError } from "../common/errors.ts";
import { workerUrl } from "./worker_url.ts";

interface Failure {
  /** Absent when it was an unexpected failure. */
  readonly kind?: ErrorKind;
  readonly message: string;
  readonly hint?: string | undefined;
  readonly stack?: string | undefined;
}

type Reply<Result> = { readonly result: Result } | { readonly failure: Failure };

/** A question of the thread, which waits for the answer. */
interface Question {
  readonly question: unknown;
  /** Shared: the answer's state and its length in bytes. */
  readonly state: Int32Array;
  /** Shared: the answer, or a {@link Failure} as JSON. */
  readonly bytes: Uint8Array;
}

// What `state` has.
const STATE = 0;
const LENGTH = 1;
// What STATE is.
const ASKED = 0;
const ANSWERED = 1;
const FAILED = 2;

/** The longest answer to a question of a thread. */
const ANSWER_BYTES = 256 << 10;

interface Job<Request, Result> {
  readonly request: Request;
  readonly transfer: readonly Transferable[];
  resolve(result: Result): void;
  reject(error: unknown): void;
}

/** A thread that starts with the first request, and again after it has died. */
export class WorkerThread<Request, Result> {
  readonly #module: string;
  #worker: Worker | null = null;
  readonly #jobs: Job<Request, Result>[] = [];
  readonly #answer: (question: never) => Promise<Uint8Array>;

  /**
   * @param module its path from the project's root, named `…_worker.ts`; it calls
   *   {@link serveRequests}
   * @param answer answers what the thread asks with {@link askParent}, in at most 256 KiB
   */
  constructor(module: string, answer: (question: never) => Promise<Uint8Array> = nobodyAnswers) {
    this.#module = module;
    this.#answer = answer;
  }

  /**
   * Resolves with the thread's answer.
   *
   * @param transfer parts of the request that are transferred instead of copied
   * @throws {ZenithError} what the thread has thrown; `io` when it has died
   */
  run(request: Request, transfer: readonly Transferable[] = []): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#jobs.push({ request, transfer, resolve, reject });
      if (this.#jobs.length === 1) this.#start(this.#jobs[0]);
    });
  }

  #start({ request, transfer }: Job<Request, Result>): void {
    const worker = this.#worker ??= this.#newWorker();
    // Only a pending request keeps the process alive.
    worker.ref();
    worker.postMessage(request, transfer);
  }

  #newWorker(): Worker {
    const worker = new Worker(workerUrl(this.#module));
    worker.on("message", (message: Reply<Result> | Question) => {
      if ("question" in message) void this.#reply(message);
      else this.#finish(worker, message);
    });
    worker.on("error", (error) => this.#died(worker, error));
    worker.on("exit", (code) => this.#died(worker, new Error(`exit code ${code}`)));
    return worker;
  }

  async #reply({ question, state, bytes }: Question): Promise<void> {
    let outcome = ANSWERED;
    let answer: Uint8Array;
    try {
      answer = await this.#answer(question as never);
      assert(answer.length <= bytes.length, "an answer is not too long");
    } catch (error) {
      outcome = FAILED;
      answer = new TextEncoder().encode(JSON.stringify(asFailure(error))).subarray(0, bytes.length);
    }
    bytes.set(answer);
    state[LENGTH] = answer.length;
    Atomics.store(state, STATE, outcome);
    Atomics.notify(state, STATE);
  }

  #finish(worker: Worker, reply: Reply<Result>): void {
    const job = this.#jobs.shift();
    assert(job !== undefined, "a thread answers what it was asked");
    const next = this.#jobs[0];
    if (next === undefined) worker.unref();
    else this.#start(next);
    if ("result" in reply) job.resolve(reply.result);
    else job.reject(asError(reply.failure));
  }

  #died(worker: Worker, cause: unknown): void {
    if (this.#worker !== worker) return;
    // The next request starts a new thread. The current request may have killed this one, so it is
    // not retried.
    this.#worker = null;
    const message = `the thread of ${this.#module} has died: ${errorMessage(cause)}`;
    for (const job of this.#jobs.splice(0)) job.reject(new ZenithError("io", message, { cause }));
  }
}

/** Answers the requests of a {@link WorkerThread}. Called in the worker. */
export function serveRequests<Request, Result>(handle: (request: Request) => Result | Promise<Result>): void {
  const port = parentPort;
  assert(port !== null, "this module is started as a worker");
  port.on("message", (request: Request) => {
    void Promise.resolve()
      .then(() => handle(request))
      .then(
        (result): Reply<Result> => ({ result }),
        (error: unknown): Reply<Result> => ({ failure: asFailure(error) }),
      )
      .then((reply) => port.postMessage(reply));
  });
}

function nobodyAnswers(): Promise<never> {
  return Promise.reject(new ZenithError("not_implemented", "this thread's questions are not answered"));
}

/**
 * Asks the thread that has started this one, and waits for the answer. Nothing else happens in this
 * thread meanwhile.
 *
 * @throws what the other thread throws
 */
export function askParent(question: unknown): Uint8Array {
  const port = parentPort;
  assert(port !== null, "this module is started as a worker");
  const state = new Int32Array(new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT));
  const bytes = new Uint8Array(new SharedArrayBuffer(ANSWER_BYTES));
  port.postMessage({ question, state, bytes } satisfies Question);
  Atomics.wait(state, STATE, ASKED);
  const answer = bytes.slice(0, state[LENGTH]);
  if (Atomics.load(state, STATE) === ANSWERED) return answer;
  throw asError(JSON.parse(new TextDecoder().decode(answer)));
}

/** An error loses its class between threads. */
function asFailure(error: unknown): Failure {
  if (error instanceof ZenithError) return { kind: error.kind, message: error.message, hint: error.hint };
  return { message: errorMessage(error), stack: error instanceof Error ? error.stack : undefined };
}

function asError({ kind, message, hint, stack }: Failure): Error {
  if (kind !== undefined) return new ZenithError(kind, message, hint === undefined ? {} : { hint });
  const error = new Error(message);
  if (stack !== undefined) error.stack = stack;
  return error;
}
