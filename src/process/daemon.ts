/**
 * Starts background processes. A daemon is this same program, started again and detached. It
 * reports to its parent over a pipe at file descriptor 3: its progress, that it is ready, or why it
 * could not start.
 */
import { spawn } from "node:child_process";
import { closeSync, openSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { literal, number, object, optional, picklist, safeParse, string, variant } from "valibot";
import { ERROR_KINDS, errorMessage, ioError, systemErrorCode, ZenithError } from "../common/errors.ts";
import { isCompiled } from "./worker_url.ts";

const STATUS_FD = 3;
const STATUS_FD_VARIABLE = "ZENITH_STATUS_FD";

const MessageSchema = variant("type", [
  object({ type: literal("progress"), text: string() }),
  object({ type: literal("ready"), address: optional(object({ host: string(), port: number() })) }),
  object({
    type: literal("failed"),
    kind: picklist(ERROR_KINDS),
    message: string(),
    hint: optional(string()),
  }),
]);

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
  const { file, args } = selfCommand(options.args);
  const child = spawn(file, args, {
    detached: true,
    stdio: ["ignore", logFd, logFd, "pipe"],
    env: { ...process.env, [STATUS_FD_VARIABLE]: String(STATUS_FD) },
  });
  closeSync(logFd);
  const pipe = child.stdio[STATUS_FD];
  if (pipe === null || pipe === undefined || !("on" in pipe)) {
    throw new ZenithError("io", "could not open a pipe to the new process");
  }
  let timer: NodeJS.Timeout | undefined;
  try {
    return await new Promise<DaemonReady>((resolve, reject) => {
      let pending = "";
      let exited = false;
      const onLine = (line: string) => {
        const message = safeParse(MessageSchema, parseJson(line));
        if (!message.success) return;
        const { output } = message;
        if (output.type === "progress") options.onProgress?.(output.text);
        else if (output.type === "ready") resolve({ pid: child.pid!, address: output.address });
        else {
          reject(
            new ZenithError(
              output.kind,
              output.message,
              output.hint === undefined ? {} : { hint: output.hint },
            ),
          );
        }
      };
      const onGone = (how: string) => {
        reject(
          new ZenithError("unavailable", `${options.args[0]} ${how} before it was ready`, {
            hint: `see the end of ${options.logFile}`,
          }),
        );
      };
      pipe.on("data", (chunk: Uint8Array) => {
        pending += chunk.toString();
        const lines = pending.split("\n");
        pending = lines.pop()!;
        for (const line of lines) onLine(line);
      });
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
      timer = setTimeout(() => {
        child.kill("SIGKILL");
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
    if ("destroy" in pipe) pipe.destroy();
    child.unref();
  }
}

/** How long to wait for the rest of an ended process's pipe. */
const LAST_WORDS_MS = 500;

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The daemon's end of the pipe. Does nothing if no parent listens. */
export interface ParentChannel {
  progress(text: string): void;
  /** The last message, as is `failed`: both close the pipe. */
  ready(address?: { host: string; port: number }): void;
  failed(error: unknown): void;
}

export function openParentChannel(): ParentChannel {
  let open = process.env[STATUS_FD_VARIABLE] === String(STATUS_FD);
  // Our children must not take the descriptor for theirs.
  delete process.env[STATUS_FD_VARIABLE];
  const send = (message: Record<string, unknown>, last: boolean) => {
    if (!open) return;
    try {
      writeSync(STATUS_FD, JSON.stringify(message) + "\n");
      if (last) closeSync(STATUS_FD);
    } catch (error) {
      // The parent was interrupted. The daemon that it started goes on.
      if (systemErrorCode(error) !== "EPIPE") throw error;
      open = false;
    }
    if (last) open = false;
  };
  return {
    progress: (text) => send({ type: "progress", text }, false),
    ready: (address) => send({ type: "ready", address }, true),
    failed: (error) => {
      const known = error instanceof ZenithError ? error : undefined;
      send(
        { type: "failed", kind: known?.kind ?? "io", message: errorMessage(error), hint: known?.hint },
        true,
      );
    },
  };
}
