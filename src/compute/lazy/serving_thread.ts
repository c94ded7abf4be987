/**
 * The thread that serves a mount. One whose mount is gone waits for the next, because to start a
 * thread, and to load and warm up its code, takes long.
 */
import { Worker } from "node:worker_threads";
import { assert } from "../../common/assert.ts";
import { errorMessage } from "../../common/errors.ts";
import { workerUrl } from "../../process/worker_url.ts";
import type { ServeMessage, WorkerMessage } from "./pages/worker_messages.ts";

/** The user of a thread. */
export interface ThreadUser {
  onMessage(message: WorkerMessage): void;
  /** The thread has ended, with a description of how. It can't be used any more. */
  onEnd(how: string): void;
}

/** A thread whose mount is gone, and that nobody uses. */
let idle: ServingThread | undefined;

export class ServingThread {
  readonly #worker = new Worker(workerUrl("src/compute/lazy/fuse_worker.ts"));
  #user: ThreadUser | undefined;

  private constructor() {
    this.#worker.on("message", (message: WorkerMessage) => this.#user?.onMessage(message));
    this.#worker.on("error", (error: Error) => this.#ended(errorMessage(error)));
    this.#worker.on("exit", () => this.#ended("it ended"));
  }

  /** Returns the idle thread, or starts one, which takes some time for other things. */
  static take(user: ThreadUser): ServingThread {
    const thread = idle ?? new ServingThread();
    idle = undefined;
    thread.#user = user;
    return thread;
  }

  /** Starts a thread that waits for its first user, unless one waits. */
  static prepare(): void {
    idle ??= new ServingThread();
  }

  /** Serves a mount until that is gone, and then says `unmounted`. */
  serve(message: ServeMessage): void {
    this.#worker.postMessage(message);
  }

  /** Leaves the thread to the next user. It serves nothing, or has said that the mount is gone. */
  giveBack(): void {
    assert(this.#user !== undefined, "a thread is given back once");
    this.#user = undefined;
    if (idle === undefined) idle = this;
    else void this.#worker.terminate();
  }

  #ended(how: string): void {
    if (idle === this) idle = undefined;
    this.#user?.onEnd(how);
  }
}
