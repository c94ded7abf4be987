/** Starts and stops the environment's own page server. */
import { existsSync } from "node:fs";
import { type DaemonReady, startDaemon } from "../process/daemon.ts";
import { ZenithError } from "../common/errors.ts";
import { formatHostPort } from "../common/host_port.ts";
import { checkPidFile, runsElsewhere } from "../process/pid_file.ts";
import { type Environment, hasLocalPageServer, pageServerAddress } from "./environment.ts";
import { lastErrorInLog } from "./log_file.ts";
import { whyNotFree } from "./ports.ts";
import { authOptions } from "./server_tokens.ts";
import { startOrAwait } from "./start_or_await.ts";
import { type StopMode, stopProcess } from "./stop_process.ts";

/** Long, because a page server that was killed rereads its WAL before it answers. */
const START_TIMEOUT_MS = 300_000;
const STOP_TIMEOUT_MS = 120_000;

export interface StartPageServerOptions {
  readonly onProgress?: (text: string) => void;
  /** Overrides the configured address; port 0 picks any free port. */
  readonly listen?: string;
}

/**
 * Fails when the environment has lost its data. A page server creates missing directories, so it
 * would start empty.
 *
 * @throws {ZenithError} `not_found`
 */
export function assertDataPresent({ paths }: Environment): void {
  const { tenants } = paths.pageserver;
  if (existsSync(tenants)) return;
  throw new ZenithError(
    "not_found",
    `${tenants} does not exist: that is where the data of all branches are`,
    {
      hint:
        `if it was moved, move it back; if it is lost, remove ${paths.root} and begin anew with "zenith init"`,
    },
  );
}

/**
 * Starts the page server in the background and waits until it answers.
 *
 * @throws {ZenithError} `conflict` when it is already running or its port is taken; otherwise the
 *   page server's own error
 */
export async function startPageServer(
  environment: Environment,
  options: StartPageServerOptions = {},
): Promise<DaemonReady> {
  assertLocal(environment);
  const { paths } = environment;
  const running = checkPidFile(paths.pageserver.pidFile);
  if (running.state === "running") {
    throw new ZenithError("conflict", `the page server is already running (process ${running.process.pid})`, {
      hint: '"zenith status" shows what runs; "zenith restart" starts the servers anew',
    });
  }
  if (running.state === "elsewhere") throw runsElsewhere("the page server", paths.pageserver.pidFile);
  const address = pageServerAddress(environment);
  const taken = options.listen === undefined ? await whyNotFree(address) : undefined;
  if (taken !== undefined) {
    throw new ZenithError("conflict", `${formatHostPort(address)} ${taken}`, {
      hint: `stop that program, or change pageserver.listen in ${paths.config}`,
    });
  }
  const distribDir = environment.config.pg_distrib_dir;
  return await startDaemon({
    args: [
      "pageserver",
      "-D",
      paths.pageserver.workdir,
      "-l",
      options.listen ?? formatHostPort(address),
      ...(distribDir === undefined ? [] : ["--pg-distrib-dir", distribDir]),
      ...authOptions(environment),
      "--log-file",
      paths.pageserver.log,
    ],
    logFile: paths.pageserver.log,
    timeoutMs: START_TIMEOUT_MS,
    ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }),
  });
}

/**
 * Starts the page server in the background and waits until it answers. When another command is
 * starting it, waits for that.
 *
 * @returns undefined when another command has started it
 * @throws {ZenithError} as {@link startPageServer}
 */
export function ensurePageServer(
  environment: Environment,
  options: Pick<StartPageServerOptions, "onProgress"> = {},
): Promise<DaemonReady | undefined> {
  return startOrAwait({
    what: "the page server",
    pidFile: environment.paths.pageserver.pidFile,
    address: pageServerAddress(environment),
    timeoutMs: START_TIMEOUT_MS,
    start: () => startPageServer(environment, options),
  });
}

export function isPageServerRunning(environment: Environment): boolean {
  return checkPidFile(environment.paths.pageserver.pidFile).state === "running";
}

/** @returns whether it was running */
export async function stopPageServer(environment: Environment, mode: StopMode): Promise<boolean> {
  assertLocal(environment);
  return await stopProcess({
    what: "the page server",
    pidFile: environment.paths.pageserver.pidFile,
    mode,
    timeoutMs: STOP_TIMEOUT_MS,
    lastWords: () => lastErrorInLog(environment.paths.pageserver.log),
  });
}

function assertLocal(environment: Environment): void {
  if (hasLocalPageServer(environment)) return;
  throw new ZenithError(
    "invalid_argument",
    `this environment uses the page server at ${formatHostPort(pageServerAddress(environment))}: ` +
      `it is not ours to start or stop`,
  );
}
