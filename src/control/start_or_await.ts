/** Starts a server unless another command is doing so: then waits until it answers. */
import { ZenithError } from "../common/errors.ts";
import { formatHostPort, type HostPort } from "../common/host_port.ts";
import { sleep } from "../common/sleep.ts";
import type { DaemonReady } from "../process/daemon.ts";
import { checkPidFile } from "../process/pid_file.ts";
import { isAnswering } from "./ports.ts";

const POLL_MS = 20;

interface Server {
  /** `the page server`. */
  readonly what: string;
  readonly pidFile: string;
  readonly address: HostPort;
  /** How long it may take until it answers. */
  readonly timeoutMs: number;
  /** Starts it and waits until it answers. */
  start(): Promise<DaemonReady>;
}

/**
 * A server claims its pid file first and listens when it is ready, so one whose process runs may
 * not answer yet.
 *
 * @returns undefined when another command has started it
 * @throws {ZenithError} what `start` throws; `unavailable` when the server that another command has
 *   started ended before it answered, `timeout`
 */
export async function startOrAwait(server: Server): Promise<DaemonReady | undefined> {
  if (!isRunning(server)) {
    try {
      return await server.start();
    } catch (error) {
      // Another command came first.
      if (!(error instanceof ZenithError && error.kind === "conflict" && isRunning(server))) throw error;
    }
  }
  await untilAnswering(server);
  return undefined;
}

function isRunning({ pidFile }: Server): boolean {
  return checkPidFile(pidFile).state === "running";
}

async function untilAnswering(server: Server): Promise<void> {
  const { what, address, timeoutMs } = server;
  const deadline = Date.now() + timeoutMs;
  while (!await isAnswering(address)) {
    if (!isRunning(server)) {
      throw new ZenithError("unavailable", `${what} ended before it answered on ${formatHostPort(address)}`, {
        hint: '"zenith status" shows what runs',
      });
    }
    if (Date.now() > deadline) {
      throw new ZenithError(
        "timeout",
        `${what} runs, but has not answered on ${formatHostPort(address)} within ${timeoutMs / 1000} s`,
        { hint: '"zenith restart" starts the servers anew' },
      );
    }
    await sleep(POLL_MS);
  }
}
