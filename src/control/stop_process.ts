/** Stops a background process and waits until it is gone. */
import { systemErrorCode, ZenithError } from "../common/errors.ts";
import {
  checkPidFile,
  holdsPidFile,
  isRunning,
  type ProcessIdentity,
  runsElsewhere,
} from "../process/pid_file.ts";
import { sleep } from "../common/sleep.ts";

/**
 * `fast` shuts down cleanly, `immediate` ends at once. Neither loses anything that was acknowledged
 * as durable.
 */
export type StopMode = "fast" | "immediate";

export function parseStopMode(text: string): StopMode {
  if (text === "fast" || text === "immediate") return text;
  throw new ZenithError("invalid_argument", `"${text}" is not a stop mode: expected fast or immediate`);
}

/** Most processes stop within some tens of milliseconds, or take a second. */
const FIRST_POLL_MS = 2;
const EARLY_POLL_MAX_MS = 4;
const EARLY_MS = 200;
const POLL_MAX_MS = 25;

export interface StopProcessOptions {
  /** What messages call the process: `the page server`. */
  readonly what: string;
  readonly pidFile: string;
  readonly mode: StopMode;
  readonly timeoutMs: number;
  /** Tells why the process may not have stopped. */
  readonly lastWords?: () => string | undefined;
  /** Called repeatedly until the process has stopped. */
  readonly onWait?: () => void;
  /** Whether it has stopped as soon as it gives up its pid file, though its process may live on. */
  readonly untilReleased?: boolean;
  /** The hint of the error when the process does not stop. */
  readonly hint?: string;
}

/**
 * @param signal 0 only checks
 * @returns the process that the pid file names; undefined when it does not run
 * @throws {ZenithError} as {@link stopProcess}, without its `timeout`
 */
function signalRunning(
  what: string,
  pidFile: string,
  signal: NodeJS.Signals | 0,
): ProcessIdentity | undefined {
  const found = checkPidFile(pidFile);
  if (found.state === "elsewhere") throw runsElsewhere(what, pidFile);
  if (found.state !== "running") return undefined;
  const { pid } = found.process;
  try {
    process.kill(pid, signal);
  } catch (error) {
    const code = systemErrorCode(error);
    // It has ended in between.
    if (code === "ESRCH") return found.process;
    if (code !== "EPERM") throw error;
    throw new ZenithError("conflict", `${what} (process ${pid}) runs as another user`, {
      hint: "stop it as that user, or as root",
      cause: error,
    });
  }
  return found.process;
}

/**
 * Makes sure that the process that the pid file names could be stopped from here, if it runs.
 *
 * @throws {ZenithError} as {@link stopProcess}
 */
export function assertStoppable(what: string, pidFile: string): void {
  signalRunning(what, pidFile, 0);
}

/**
 * Tells the process that the pid file names to end at once, without waiting for it.
 *
 * @returns whether it was running
 * @throws {ZenithError} as {@link stopProcess}
 */
export function askToStop(what: string, pidFile: string): boolean {
  return signalRunning(what, pidFile, "SIGQUIT") !== undefined;
}

/**
 * Signals the process that the pid file names and waits until it is gone.
 *
 * @returns whether it was running
 * @throws {ZenithError} `timeout`; `conflict` when it runs where it can't be seen, or as another
 *   user
 */
export async function stopProcess(options: StopProcessOptions): Promise<boolean> {
  const target = signalRunning(
    options.what,
    options.pidFile,
    options.mode === "fast" ? "SIGTERM" : "SIGQUIT",
  );
  if (target === undefined) return false;
  const start = Date.now();
  const deadline = start + options.timeoutMs;
  const goesOn = (): boolean =>
    options.untilReleased === true ? holdsPidFile(options.pidFile, target) : isRunning(target);
  for (let pollMs = FIRST_POLL_MS; goesOn(); pollMs *= 2) {
    options.onWait?.();
    if (Date.now() > deadline) {
      const words = options.lastWords?.();
      throw new ZenithError(
        "timeout",
        `${options.what} (process ${target.pid}) did not stop within ${options.timeoutMs / 1000} s` +
          (words === undefined ? "" : `: ${words}`),
        { hint: options.hint ?? 'try "-m immediate"' },
      );
    }
    pollMs = Math.min(pollMs, Date.now() - start < EARLY_MS ? EARLY_POLL_MAX_MS : POLL_MAX_MS);
    await sleep(pollMs);
  }
  return true;
}
