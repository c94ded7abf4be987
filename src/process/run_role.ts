/**
 * Runs one role in this process: claims its directory, opens its log, handles signals, reports that
 * it is ready, and shuts it down.
 */
import { allowCoreDumps, forbidCoreDumps } from "./core_dumps.ts";
import { openParentChannel, type ParentChannel } from "./parent_channel.ts";
import { errorMessage, ZenithError } from "../common/errors.ts";
import { createLogger, type Logger, type LogLevel, type OwnLogger } from "./log.ts";
import { claimPidFile, type PidFileClaim } from "./pid_file.ts";

export type StopMode = "fast" | "immediate";

/** A role that has started. */
export interface RunningRole {
  /** The address that the role listens on, if it listens. */
  readonly address?: { readonly host: string; readonly port: number };
  /** Resolves when the role has stopped. `immediate` drops data that can be fetched again. */
  stop(mode: StopMode): Promise<void>;
  /**
   * Turns a fast stop in progress into an immediate one. Without this method, the fast stop
   * continues.
   */
  hurryStop?(): void;
  /** Settles when the role ends on its own: resolves, or rejects with the reason. */
  readonly ended?: Promise<void>;
}

export interface RoleContext {
  readonly log: Logger;
  /** Shows one line to the process that waits for the start. */
  progress(text: string): void;
  /** Aborted with the final error if a stop is requested while the role is still starting. */
  readonly signal: AbortSignal;
}

export interface RunRoleOptions {
  readonly name: string;
  readonly pidFile: string;
  /** The log's file; standard error when absent. */
  readonly logFile?: string | undefined;
  readonly logLevel?: LogLevel;
  /** Who waits for the start; by default the process that has started this one. */
  readonly parent?: ParentChannel;
  start(context: RoleContext): Promise<RunningRole>;
  /** Called after a requested stop, while the directory is still claimed. */
  onStopped?(log: Logger): Promise<void>;
}

/**
 * Starts the role and runs it to its end. SIGTERM and SIGINT stop it. SIGQUIT, or the loss of its
 * pid file, stops it immediately.
 *
 * Nothing of it is left in this process when it returns.
 *
 * @returns the exit code: 0 after a requested stop
 * @throws when the role could not start; the parent has been told
 */
export async function runRole(options: RunRoleOptions): Promise<number> {
  const parent = options.parent ?? openParentChannel();
  let claim: PidFileClaim | undefined;
  let log: OwnLogger | undefined;
  using listeners = new DisposableStack();
  // Roles hold tokens, passwords and everybody's pages.
  forbidCoreDumps();
  // Who isn't root could not see else whether this process can be the spare for another role.
  if (process.getuid?.() !== 0) listeners.defer(allowCoreDumps);
  try {
    claim = claimPidFile(options.pidFile);
    log = createLogger({ name: options.name, file: options.logFile, level: options.logLevel ?? "info" });
    const stopping = new AbortController();
    const stopAsked = Promise.race([
      waitForStop(stopping, listeners),
      untilLost(claim, options.pidFile, log, listeners),
    ]);
    dieLoudly(log, listeners);
    log.info("starting");
    const role = await options.start({
      log,
      progress: (text) => parent.progress(text),
      signal: stopping.signal,
    });
    log.info("ready", role.address === undefined ? {} : { ...role.address });
    parent.ready(role.address);
    listen(listeners, "SIGQUIT", () => role.hurryStop?.());
    const end = await serve(role, stopAsked, log);
    if (end === "stopped" && isHeld(claim)) await options.onStopped?.(log);
    log.close();
    // After a failure the pid file stays, so that others can tell a crash from a stop.
    if (end !== "failed") claim.release();
    return end === "failed" ? 1 : 0;
  } catch (error) {
    log?.error(`could not start: ${errorMessage(error)}`, { err: error });
    claim?.release();
    parent.failed(error);
    throw error;
  }
}

type End = "stopped" | "ended" | "failed";

async function serve(role: RunningRole, stopAsked: Promise<StopMode>, log: Logger): Promise<End> {
  const ended = role.ended?.then(() => "ended" as const, (error: unknown) => ({ error }));
  const reason = await (ended === undefined ? stopAsked : Promise.race([stopAsked, ended]));
  if (reason === "ended") {
    log.info("ended");
    return "ended";
  }
  if (typeof reason === "object") {
    log.error(`ended: ${errorMessage(reason.error)}`, { err: reason.error });
    return "failed";
  }
  log.info("stopping", { mode: reason });
  try {
    await role.stop(reason);
  } catch (error) {
    log.error(`could not stop cleanly: ${errorMessage(error)}`, { err: error });
    return "failed";
  }
  log.info("stopped");
  return "stopped";
}

/** Handles an event of this process until `listeners` is disposed of. */
function listen(
  listeners: DisposableStack,
  event: NodeJS.Signals | "uncaughtException" | "unhandledRejection",
  handle: (error: unknown) => void,
): void {
  process.on(event, handle);
  listeners.defer(() => process.off(event, handle));
}

/** How often a role checks that it still owns its directory. */
const CLAIM_CHECK_MS = 5_000;

/**
 * Resolves when somebody removes or moves the role's directory. The role has lost its data then,
 * and "zenith stop" can no longer find it: it would keep its port for ever.
 */
function untilLost(
  claim: PidFileClaim,
  pidFile: string,
  log: Logger,
  listeners: DisposableStack,
): Promise<StopMode> {
  return new Promise((resolve) => {
    const timer = setInterval(() => {
      if (isHeld(claim)) return;
      clearInterval(timer);
      log.error(`ending: ${pidFile} is gone, or another process's`);
      resolve("immediate");
    }, CLAIM_CHECK_MS);
    timer.unref();
    listeners.defer(() => clearInterval(timer));
  });
}

/** A disk that can't be read is not a reason to end. */
function isHeld(claim: PidFileClaim): boolean {
  try {
    return claim.isHeld();
  } catch {
    return true;
  }
}

function waitForStop(stopping: AbortController, listeners: DisposableStack): Promise<StopMode> {
  return new Promise((resolve) => {
    const stop = (mode: StopMode) => () => {
      stopping.abort(new ZenithError("unavailable", "stopped while starting"));
      resolve(mode);
    };
    listen(listeners, "SIGTERM", stop("fast"));
    listen(listeners, "SIGINT", stop("fast"));
    listen(listeners, "SIGQUIT", stop("immediate"));
    // A daemon outlives the terminal it was started from.
    listen(listeners, "SIGHUP", () => {});
  });
}

/**
 * Logs an error that nobody caught and exits. Such an error is a bug, and the state after it is
 * unknown.
 */
function dieLoudly(log: Logger, listeners: DisposableStack): void {
  const die = (what: string) => (error: unknown) => {
    log.error(`${what}: ${errorMessage(error)}`, { err: error });
    process.exit(1);
  };
  listen(listeners, "uncaughtException", die("uncaught exception"));
  listen(listeners, "unhandledRejection", die("unhandled rejection"));
}
