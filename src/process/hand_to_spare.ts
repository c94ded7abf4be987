/** Hands the work of a new process to one that waits for some. */
import { connect } from "node:net";
import { messageReader, type StartingProcess } from "./parent_channel.ts";
import { sleep } from "../common/sleep.ts";
import { holdsPidFile, isRunning } from "./pid_file.ts";
import { hasSameSurroundings, isOfSameProgram } from "./same_surroundings.ts";
import { findSpares, type FoundSpare } from "./spare_slots.ts";
import { SPARE_GREETING, type SpareRequest } from "./spare.ts";

/** A spare that is alive greets at once. A frozen one is left alone. */
const GREETING_TIMEOUT_MS = 500;

/**
 * Finds a spare that could as well have been started by this process, and gives it these arguments,
 * with this process's environment. Ends spares of another version of this program.
 *
 * @returns undefined when there is none
 */
export async function handToSpare(
  directory: string,
  { args, logFile }: Pick<SpareRequest, "args" | "logFile">,
): Promise<StartingProcess | undefined> {
  for (const spare of findSpares(directory)) {
    if (!isOfSameProgram(spare.process.pid)) {
      endSpare(spare);
      continue;
    }
    if (!hasSameSurroundings(spare.process.pid)) continue;
    const taken = await take(spare, { args, logFile, env: { ...process.env }, cwd: process.cwd() });
    if (taken !== undefined) return taken;
  }
  return undefined;
}

/** A spare that waits has nothing to do before it ends. */
const END_TIMEOUT_MS = 2_000;
const END_POLL_MS = 5;

/**
 * Ends the spares that wait. Resolves when they have ended. Does not wait for one that has taken up
 * work meanwhile, or that is another user's.
 */
export async function endSpares(directory: string): Promise<void> {
  const ending = findSpares(directory).filter((spare) => endSpare(spare));
  const startMs = Date.now();
  while (ending.some(({ process }) => isRunning(process))) {
    const waitedMs = Date.now() - startMs;
    if (waitedMs > 2 * END_TIMEOUT_MS) return;
    if (waitedMs > END_TIMEOUT_MS) { for (const spare of ending) endSpare(spare, "SIGKILL"); }
    await sleep(END_POLL_MS);
  }
}

/** @returns whether it was told to end */
function endSpare(spare: FoundSpare, signal: NodeJS.Signals = "SIGTERM"): boolean {
  // It may have taken up work meanwhile.
  if (!holdsPidFile(spare.pidFile, spare.process)) return false;
  try {
    process.kill(spare.process.pid, signal);
    return true;
  } catch {
    // It has ended by itself, or is another user's, whose it stays.
    return false;
  }
}

function take(spare: FoundSpare, request: SpareRequest): Promise<StartingProcess | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ path: spare.socket });
    const giveUp = (): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(undefined);
    };
    const timer = setTimeout(giveUp, GREETING_TIMEOUT_MS);
    socket.on("error", giveUp);
    socket.on("close", giveUp);
    socket.once("data", (greeting: Uint8Array) => {
      if (greeting.toString() !== SPARE_GREETING) return giveUp();
      clearTimeout(timer);
      socket.off("close", giveUp);
      socket.write(`${JSON.stringify(request)}\n`);
      resolve({
        pid: spare.process.pid,
        listen(onMessage, onGone) {
          socket.on("data", messageReader(onMessage));
          socket.on("close", () => onGone("ended"));
        },
        leave: () => socket.destroy(),
      });
    });
  });
}
