/**
 * Starts background processes. A daemon is this same program, started again and detached, or a
 * spare that waits for work.
 */
import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { errorMessage, ioError, ZenithError } from "../common/errors.ts";
import {
  type DaemonMessage,
  messageReader,
  type StartingProcess,
  STATUS_FD,
  STATUS_FD_VARIABLE,
} from "./parent_channel.ts";
import { handToSpare } from "./hand_to_spare.ts";
import { isCompiled } from "./worker_url.ts";

export interface DaemonReady {
  readonly pid: number;
  /** The address that the daemon listens on, if it listens. */
  readonly address: { readonly host: string; readonly port: number } | undefined;
}

export interface StartDaemonOptions {
  /** The arguments after the program's name: `["pageserver", "-D", …]`. */
  readonly args: readonly string[];
  /** Receives what the daemon prints outside its log, such as the runtime's last words. */
  readonly logFile: string;
  readonly onProgress?: (text: string) => void;
  readonly timeoutMs: number;
  /** The directory of spares that can do it, instead of a new process. */
  readonly spares?: string | undefined;
}

/**
 * The command that starts this program again: the compiled executable, or a runtime with `cli.ts`.
 */
function selfCommand(args: readonly string[]): { file: string; args: string[] } {
  if (isCompiled()) return { file: process.execPath, args: [...args] };
  const cli = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "cli.ts");
  const runtimeArgs = "deno" in process.versions ? ["run", "--allow-all", "--no-check"] : [];
  return { file: process.execPath, args: [...runtimeArgs, cli, ...args] };
}

/**
 * Starts a daemon and waits until it is ready.
 *
 * @throws {ZenithError} the daemon's own error when it could not start, `timeout`, or `unavailable`
 *   when it died without reporting why
 */
export async function startDaemon(options: StartDaemonOptions): Promise<DaemonReady> {
  let logFd: number;
  try {
    logFd = openSync(options.logFile, "a", 0o644);
  } catch (error) {
    throw ioError("open log", options.logFile, error);
  }
  let starting: StartingProcess;
  try {
    const { spares, args, logFile } = options;
    const spare = spares === undefined ? undefined : await handToSpare(spares, { args: [...args], logFile });
    starting = spare ?? startProcess(args, logFd);
  } finally {
    closeSync(logFd);
  }
  let timer: NodeJS.Timeout | undefined;
  try {
    return await new Promise<DaemonReady>((resolve, reject) => {
      const onMessage = (message: DaemonMessage): void => {
        if (message.type === "progress") options.onProgress?.(message.text);
        else if (message.type === "ready") resolve({ pid: starting.pid!, address: message.address });
        else reject(new ZenithError(message.kind, message.message, hintOf(message)));
      };
      starting.listen(onMessage, (how) => {
        reject(
          new ZenithError("unavailable", `${options.args[0]} ${how} before it was ready`, {
            hint: `see the end of ${options.logFile}`,
          }),
        );
      });
      timer = setTimeout(() => {
        if (starting.pid !== undefined) process.kill(starting.pid, "SIGKILL");
        reject(
          new ZenithError(
            "timeout",
            `${options.args[0]} was not ready within ${options.timeoutMs / 1000} s`,
            { hint: `see the end of ${options.logFile}` },
          ),
        );
      }, options.timeoutMs);
    });
  } finally {
    clearTimeout(timer);
    starting.leave();
  }
}

function hintOf({ hint }: { readonly hint?: string | undefined }): { hint?: string } {
  return hint === undefined ? {} : { hint };
}

/** How long to wait for the rest of an ended process's pipe. */
const LAST_WORDS_MS = 500;

/**
 * Starts this program again, detached, with a pipe for what it reports.
 *
 * @param output where what it prints goes: a file descriptor, or nowhere
 * @throws {ZenithError} `io`
 */
export function startProcess(words: readonly string[], output: number | "ignore"): StartingProcess {
  const { file, args } = selfCommand(words);
  const child = spawn(file, args, {
    detached: true,
    stdio: ["ignore", output, output, "pipe"],
    env: { ...process.env, [STATUS_FD_VARIABLE]: String(STATUS_FD) },
  });
  // It may come although what follows throws already.
  child.on("error", () => {});
  const pipe = child.stdio[STATUS_FD];
  if (pipe === null || pipe === undefined || !("on" in pipe)) {
    throw new ZenithError("io", "could not open a pipe to the new process");
  }
  return {
    pid: child.pid,
    listen(onMessage, onGone) {
      let exited = false;
      pipe.on("data", messageReader(onMessage));
      pipe.on("error", () => {});
      pipe.on("close", () => {
        if (exited) onGone("ended");
      });
      child.on("error", (error) => onGone(`could not be run (${errorMessage(error)})`));
      child.on("exit", (code, signal) => {
        exited = true;
        // Its last message may still be in the pipe.
        setTimeout(() => onGone(`ended with ${signal ?? `exit code ${code}`}`), LAST_WORDS_MS).unref();
      });
    },
    leave() {
      if ("destroy" in pipe) pipe.destroy();
      child.unref();
    },
  };
}
