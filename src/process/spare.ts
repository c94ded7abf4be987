/**
 * Waits for work after the own work is done. To start a process anew, and to load and warm up its
 * code, takes longer than what a compute's start needs otherwise.
 */
import { chmodSync, closeSync, openSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { array, type InferOutput, object, optional, record, safeParse, string } from "valibot";
import { collectGarbage } from "../common/garbage.ts";
import { libc } from "./libc.ts";
import { type ParentChannel, parentChannel } from "./parent_channel.ts";
import { type ClaimedSlot, leaveSlot } from "./spare_slots.ts";

/** A spare that is not needed for this long ends. */
const IDLE_MS = 5 * 60_000;
/** One that was started ahead of need. */
const AHEAD_IDLE_MS = 30 * 60_000;

/** A spare that is not needed at once gives back memory. */
const COLLECT_AFTER_MS = 2_000;

/** How often a spare looks whether its directory is still there, and how large it is. */
const CHECK_MS = 5_000;

/**
 * A spare that is larger than what a new process needs, after it has collected its garbage, ends. A
 * scan of a large table leaves some 200 MB of garbage, so a look before that would end most.
 */
const MAX_RSS_BYTES = 256 << 20;

/** The environment and the arguments are most of it: execve(2) allows no more than a few MB. */
const REQUEST_MAX_LENGTH = 4 << 20;

/** The first thing that a spare says to whoever connects. */
export const SPARE_GREETING = "zenith spare\n";

const RequestSchema = object({
  /** The arguments after the program's name. */
  args: array(string()),
  /** Receives what is printed outside the log. */
  logFile: string(),
  env: record(string(), optional(string())),
  cwd: string(),
});

export type SpareRequest = InferOutput<typeof RequestSchema>;

/** Work that was handed to this process. */
export interface HandedWork {
  readonly args: readonly string[];
  /** Who waits for its start. */
  readonly parent: ParentChannel;
}

/**
 * Waits in the slot until work comes, which it can as soon as this is called. This process then has
 * the environment, the working directory and the output that a new process would have.
 *
 * @param after what it has done before
 * @returns undefined when this process is to end
 */
export async function waitAsSpare(
  slot: ClaimedSlot,
  after: "work" | "nothing" = "work",
): Promise<HandedWork | undefined> {
  using resources = new DisposableStack();
  resources.defer(() => leaveSlot(slot));
  const collecting = setTimeout(collectGarbage, COLLECT_AFTER_MS);
  resources.defer(() => clearTimeout(collecting));
  redirectOutput("/dev/null");
  process.chdir("/");
  const idleMs = after === "work" ? IDLE_MS : AHEAD_IDLE_MS;
  const handed = await Promise.race([untilToEnd(slot, idleMs, resources), untilHanded(slot, resources)]);
  if (handed === undefined) return undefined;
  const { request, socket } = handed;
  try {
    redirectOutput(request.logFile);
    process.chdir(request.cwd);
  } catch (error) {
    channelOf(socket).failed(error);
    return undefined;
  }
  for (const name of Object.keys(process.env)) delete process.env[name];
  Object.assign(process.env, request.env);
  return { args: request.args, parent: channelOf(socket) };
}

function untilToEnd(
  { claim }: ClaimedSlot,
  idleMs: number,
  resources: DisposableStack,
): Promise<undefined> {
  return new Promise((resolve) => {
    const end = (): void => resolve(undefined);
    for (const signal of ["SIGTERM", "SIGINT", "SIGQUIT"] as const) {
      process.on(signal, end);
      resources.defer(() => process.off(signal, end));
    }
    const ignore = (): void => {};
    process.on("SIGHUP", ignore);
    resources.defer(() => process.off("SIGHUP", ignore));
    const idle = setTimeout(end, idleMs);
    resources.defer(() => clearTimeout(idle));
    const checks = setInterval(() => {
      if (!claim.isHeld() || process.memoryUsage.rss() > MAX_RSS_BYTES) end();
    }, CHECK_MS);
    resources.defer(() => clearInterval(checks));
  });
}

interface Handed {
  readonly request: SpareRequest;
  readonly socket: Socket;
}

/** Serves one connection at a time, so that work can't be handed over twice. */
function untilHanded({ socket: path }: ClaimedSlot, resources: DisposableStack): Promise<Handed | undefined> {
  return new Promise((resolve) => {
    let current: Socket | undefined;
    const server = createServer((socket) => {
      socket.on("error", () => {});
      if (current !== undefined) {
        socket.destroy();
        return;
      }
      current = socket;
      let text = "";
      socket.on("data", (chunk: Uint8Array) => {
        text += chunk.toString();
        const isTooLong = text.length > REQUEST_MAX_LENGTH;
        if (!isTooLong && !text.endsWith("\n")) return;
        const request = isTooLong ? undefined : parseRequest(text);
        if (request === undefined) socket.destroy();
        else resolve({ request, socket });
      });
      socket.on("close", () => current = undefined);
      socket.write(SPARE_GREETING);
    });
    server.on("error", () => resolve(undefined));
    server.listen({ path }, () => chmodSync(path, 0o600));
    resources.defer(() => server.close());
  });
}

function parseRequest(text: string): SpareRequest | undefined {
  try {
    const request = safeParse(RequestSchema, JSON.parse(text));
    return request.success ? request.output : undefined;
  } catch {
    return undefined;
  }
}

function channelOf(socket: Socket): ParentChannel {
  return parentChannel((line, last) => {
    if (last) socket.end(line);
    else socket.write(line);
  });
}

/** Whether this process can take on another's output. That needs a C library to call. */
export function canBeSpare(): boolean {
  return libc() !== undefined;
}

const OUTPUT_FDS = [1, 2];

/** @throws what the file operations throw */
function redirectOutput(file: string): void {
  const fd = openSync(file, "a", 0o644);
  try {
    for (const output of OUTPUT_FDS) libc()?.dup2(fd, output);
  } finally {
    closeSync(fd);
  }
}
