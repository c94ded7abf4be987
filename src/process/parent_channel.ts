/**
 * What a daemon reports to the process that waits for its start, one line of JSON per message: its
 * progress, then that it is ready, or why it could not start. By default it goes through a pipe at
 * file descriptor 3.
 */
import { closeSync, fstatSync, readdirSync, readlinkSync, writeSync } from "node:fs";
import {
  type InferOutput,
  literal,
  number,
  object,
  optional,
  picklist,
  safeParse,
  string,
  variant,
} from "valibot";
import { ERROR_KINDS, errorMessage, systemErrorCode, ZenithError } from "../common/errors.ts";

export const STATUS_FD = 3;
export const STATUS_FD_VARIABLE = "ZENITH_STATUS_FD";

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

export type DaemonMessage = InferOutput<typeof MessageSchema>;

/** Returns what takes a daemon's output in pieces, and calls `onMessage` for each message in it. */
export function messageReader(onMessage: (message: DaemonMessage) => void): (chunk: Uint8Array) => void {
  let pending = "";
  return (chunk) => {
    pending += Buffer.from(chunk).toString();
    const lines = pending.split("\n");
    pending = lines.pop()!;
    for (const line of lines) {
      const message = parseMessage(line);
      if (message !== undefined) onMessage(message);
    }
  };
}

/** @returns undefined for a line that is no message */
function parseMessage(line: string): DaemonMessage | undefined {
  try {
    const message = safeParse(MessageSchema, JSON.parse(line));
    return message.success ? message.output : undefined;
  } catch {
    return undefined;
  }
}

/** A process that is becoming a daemon. */
export interface StartingProcess {
  readonly pid: number | undefined;
  /** @param onGone says how it ended */
  listen(onMessage: (message: DaemonMessage) => void, onGone: (how: string) => void): void;
  /** Stops listening. The process goes on. */
  leave(): void;
}

/** The daemon's end of the channel. Does nothing if no parent listens. */
export interface ParentChannel {
  progress(text: string): void;
  /** The last message, as is `failed`: both close the channel. */
  ready(address?: { host: string; port: number }): void;
  failed(error: unknown): void;
}

/** @param send takes a line, and whether it is the last one */
export function parentChannel(send: (line: string, last: boolean) => void): ParentChannel {
  const write = (message: DaemonMessage, last: boolean): void => send(`${JSON.stringify(message)}\n`, last);
  return {
    progress: (text) => write({ type: "progress", text }, false),
    ready: (address) => write({ type: "ready", ...(address === undefined ? {} : { address }) }, true),
    failed: (error) => {
      const known = error instanceof ZenithError ? error : undefined;
      const hint = known?.hint === undefined ? {} : { hint: known.hint };
      write({ type: "failed", kind: known?.kind ?? "io", message: errorMessage(error), ...hint }, true);
    },
  };
}

/** The channel to the process that has started this one. */
export function openParentChannel(): ParentChannel {
  let open = process.env[STATUS_FD_VARIABLE] === String(STATUS_FD);
  // Our children must not take the descriptor for theirs.
  delete process.env[STATUS_FD_VARIABLE];
  if (open) closeCopiesOfOutput();
  return parentChannel((line, last) => {
    if (!open) return;
    try {
      writeSync(STATUS_FD, line);
      if (last) closeSync(STATUS_FD);
    } catch (error) {
      // The parent was interrupted. The daemon that it started goes on.
      if (systemErrorCode(error) !== "EPIPE") throw error;
      open = false;
    }
    if (last) open = false;
  });
}

/**
 * Closes what the parent has left open of the file that standard output goes to: Bun passes on the
 * descriptor that it was copied from, and a spare would keep the file of its first life for ever.
 * Nothing else has opened that file yet.
 */
function closeCopiesOfOutput(): void {
  const directory = "/proc/self/fd";
  try {
    if (!fstatSync(1).isFile()) return;
    const output = readlinkSync(`${directory}/1`);
    for (const fd of readdirSync(directory).map(Number)) {
      if (fd > STATUS_FD && isLinkTo(`${directory}/${fd}`, output)) closeSync(fd);
    }
  } catch {
    // Without /proc they stay open.
  }
}

function isLinkTo(path: string, target: string): boolean {
  try {
    return readlinkSync(path) === target;
  } catch {
    // It was the descriptor by which the directory was read.
    return false;
  }
}
