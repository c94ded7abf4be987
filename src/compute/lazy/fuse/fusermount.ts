/**
 * Mounts without root, by fusermount3. That program is set-user-ID root, mounts for its caller, and
 * passes the device's descriptor over a socket.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { ZenithError } from "../../../common/errors.ts";
import { findProgram } from "../../../process/find_program.ts";
import { closeFd, receiveFd, socketPair } from "./libc.ts";

const PROGRAM = "fusermount3";

/** The variable by which libfuse tells fusermount3 the number of the socket's descriptor. */
const SOCKET_VARIABLE = "_FUSE_COMMFD";
const CHILD_SOCKET_FD = 3;

const S_ISUID = 0o4000;

const MOUNT_TABLE = "/etc/mtab";

/** Returns why users other than root can't mount, as a clause. Undefined when they can. */
export function whyNoFusermount(): string | undefined {
  const program = findProgram(PROGRAM);
  if (program === undefined) return `without root it needs ${PROGRAM} (package fuse3)`;
  const { mode, uid } = statSync(program);
  if (uid !== 0 || (mode & S_ISUID) === 0) return `${program} is not set-user-ID root`;
  // fusermount3 mounts without this file, but does not unmount.
  if (!existsSync(MOUNT_TABLE)) return `${program} needs ${MOUNT_TABLE}: a link to /proc/self/mounts`;
  // A service may run with NoNewPrivs set: systemd's NoNewPrivileges.
  const mayGain = !/^NoNewPrivs:\s*1$/m.test(readFileSync("/proc/self/status", "utf8"));
  return mayGain ? undefined : `${program} can't become root here (no new privileges)`;
}

/**
 * @returns the device's descriptor, which children do not inherit
 * @throws {ZenithError} `io`, with fusermount's own message
 */
export async function fuserMount(directory: string, options: readonly string[]): Promise<number> {
  const [ours, theirs] = socketPair();
  try {
    const child = startFusermount(directory, options, theirs);
    let words = "";
    child.stderr!.on("data", (chunk: Uint8Array) => words += chunk.toString());
    const code = await new Promise<number | null>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", resolve);
    });
    // This doesn't block: once fusermount3 has ended, what it sent has arrived, and nobody else has
    // the other end.
    const fd = code === 0 ? receiveFd(ours) : undefined;
    if (fd === undefined) throw new ZenithError("io", `could not mount ${directory}: ${words.trim()}`);
    return fd;
  } finally {
    closeFd(ours);
  }
}

/** @param socket the socket over which it must send the descriptor; closed here */
function startFusermount(directory: string, options: readonly string[], socket: number): ChildProcess {
  try {
    return spawn(PROGRAM, ["-o", options.join(","), "--", directory], {
      stdio: ["ignore", "ignore", "pipe", socket],
      env: { ...process.env, [SOCKET_VARIABLE]: String(CHILD_SOCKET_FD) },
    });
  } finally {
    closeFd(socket);
  }
}

/** Removes the mount, even if it is in use. @throws an error with fusermount's own message */
export function fuserUnmount(directory: string): void {
  const run = spawnSync(PROGRAM, ["-u", "-z", "--", directory], { encoding: "utf8" });
  if (run.status !== 0) throw new Error(run.stderr?.trim() ?? String(run.error));
}
