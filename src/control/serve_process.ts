/** The process of `zenith serve`, as other commands see it. */
import { runningProcess } from "../process/pid_file.ts";
import type { Environment } from "./environment.ts";
import { type StopMode, stopProcess } from "./stop_process.ts";

/** It stops every Postgres and the servers before it ends. */
const STOP_TIMEOUT_MS = 300_000;

/** Null when it does not run. */
export function servePid({ paths }: Environment): number | null {
  return runningProcess(paths.servePidFile)?.pid ?? null;
}

/**
 * Stops it, and with it all that it keeps running: it would start again what others stop.
 *
 * @returns whether it was running
 * @throws {ZenithError} as {@link stopProcess}
 */
export async function stopServe({ paths }: Environment, mode: StopMode): Promise<boolean> {
  return await stopProcess({
    what: "zenith serve",
    pidFile: paths.servePidFile,
    mode,
    timeoutMs: STOP_TIMEOUT_MS,
  });
}
