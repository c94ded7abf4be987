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

  /**
   * @param module its path from the project's root, named `…_worker.ts`; it calls
   *   {@link serveRequests}
   */
  constructor(module: string) {
    this.#module = module;
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
    worker.on("message", (reply: Reply<Result>) => this.#finish(worker, reply));
    worker.on("error", (error) => this.#died(worker, error));
    worker.on("exit", (code) => this.#died(worker, new Error(`exit code ${code}`)));
    return worker;
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
