/** What a process can do before it knows which compute it will supervise. */
import "./keep_running.ts";
import { ServingThread } from "./lazy/serving_thread.ts";

/** Loads the code of a supervisor, and starts the thread for its mount. */
export function warmUp(): void {
  ServingThread.prepare();
}
