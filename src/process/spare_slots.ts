/**
 * Where spares wait: processes that have done their work and can do it again. Each holds a slot of
 * its directory, a pid file with a Unix socket beside it, through which work is handed to it.
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { systemErrorCode } from "../common/errors.ts";
import { isFileLocked } from "./file_lock.ts";
import {
  claimPidFile,
  lockPathOf,
  type PidFileClaim,
  type ProcessIdentity,
  runningProcess,
} from "./pid_file.ts";

/** How many spares may wait in a directory. Each takes memory. */
const SLOTS = ["1", "2"];

/** The socket's name for bind(2) has to fit into struct sockaddr_un. */
const SOCKET_PATH_MAX_BYTES = 107;

export interface SpareSlot {
  readonly pidFile: string;
  readonly socket: string;
}

function slotsOf(directory: string): SpareSlot[] {
  return SLOTS.map((name) => ({
    pidFile: join(directory, `${name}.pid`),
    socket: join(directory, `${name}.sock`),
  }));
}

/** A slot, and the process that waits in it. */
export interface FoundSpare extends SpareSlot {
  readonly process: ProcessIdentity;
}

/** Returns the spares that wait, as far as their processes can be seen from here. */
export function findSpares(directory: string): FoundSpare[] {
  return slotsOf(directory).flatMap((slot) => {
    const process = runningProcess(slot.pidFile);
    return process === undefined ? [] : [{ ...slot, process }];
  });
}

export interface ClaimedSlot extends SpareSlot {
  readonly claim: PidFileClaim;
}

/** Its spare may be in a container, where its process can't be seen. */
function isFree({ pidFile, socket }: SpareSlot): boolean {
  return Buffer.byteLength(socket) <= SOCKET_PATH_MAX_BYTES && !isFileLocked(lockPathOf(pidFile));
}

export function hasFreeSlot(directory: string): boolean {
  return slotsOf(directory).some(isFree);
}

/**
 * Makes the directory if it is missing, but not what it is in: that may have been removed.
 *
 * @throws what the file operation throws
 */
export function makeSpareDirectory(directory: string): void {
  try {
    // Whoever reaches a socket has this program do as he likes.
    mkdirSync(directory, { mode: 0o700 });
  } catch (error) {
    if (systemErrorCode(error) !== "EEXIST") throw error;
  }
}

/**
 * Takes a free slot for this process.
 *
 * @param order who has worked takes the first that is free: it is found first, and its code is warm
 * @returns undefined when there is none
 */
export function claimSlot(directory: string, order: "first" | "last" = "first"): ClaimedSlot | undefined {
  const slots = slotsOf(directory).filter(isFree);
  for (const slot of order === "first" ? slots : slots.toReversed()) {
    try {
      makeSpareDirectory(directory);
      const claim = claimPidFile(slot.pidFile);
      // One that was killed has left its socket behind.
      rmSync(slot.socket, { force: true });
      return { ...slot, claim };
    } catch {
      // Another process was quicker, or the disk is full. Without a slot this one just ends.
    }
  }
  return undefined;
}

/** Leaves a slot, to work or to end. */
export function leaveSlot({ socket, claim }: ClaimedSlot): void {
  if (claim.isHeld()) rmSync(socket, { force: true });
  claim.release();
}
