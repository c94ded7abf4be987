/** Where tests keep their files. */
import { accessSync, constants, readFileSync, statfsSync } from "node:fs";
import { freemem, tmpdir } from "node:os";

const MEMORY = "/dev/shm";
/** What the tests that run side by side may fill, several times over. */
const ROOM_BYTES = 10 * 2 ** 30;

/**
 * Returns a directory in memory if there is one with room, else the usual one. Tests that end
 * processes wait for the disk at each commit, and it shows them nothing: what they have written is
 * there after a kill either way. `TMPDIR` says where, for whoever wants it elsewhere.
 */
export function scratchDirectory(): string {
  if (process.env["TMPDIR"] !== undefined) return tmpdir();
  try {
    accessSync(MEMORY, constants.W_OK);
    const { bavail, bsize } = statfsSync(MEMORY);
    const hasRoom = Math.min(bavail * bsize, freemem()) >= ROOM_BYTES;
    const mounts = readFileSync("/proc/mounts", "utf8").split("\n").map((line) => line.split(" "));
    const options = mounts.findLast(([, path]) => path === MEMORY)?.[3] ?? "";
    // They run programs that they have put there.
    return hasRoom && !options.split(",").includes("noexec") ? MEMORY : tmpdir();
  } catch {
    return tmpdir();
  }
}
