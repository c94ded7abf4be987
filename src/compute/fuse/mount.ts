/** Mounts and unmounts, by mount(8) and umount(8): they hand the kernel our descriptor and say in words what went wrong. */
import { Buffer } from "node:buffer";
import { spawn, spawnSync } from "node:child_process";
import { closeSync, constants, openSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { errorMessage, ioError, systemErrorCode, ZenithError } from "../../common/errors.ts";
import { findProgram } from "../../common/find_program.ts";
import { IO_MAX_BYTES } from "./protocol.ts";

const FUSE_DEVICE = "/dev/fuse";

/** Close-on-exec: a Postgres that has inherited the device would keep the mount alive after its server's death. */
const O_CLOEXEC = 0o2000000;

/** How the mounted file system calls itself in /proc/mounts. */
const FILE_SYSTEM_TYPE = "fuse.zenith";
const SOURCE = "zenith";

/** The mounting child's descriptor of the device. */
const CHILD_DEVICE_FD = 3;

/** setpriv is for Postgres: it must not outlive the mount's server (see `tiedToParent`). */
const PROGRAMS = ["mount", "umount", "setpriv"];

/** Why this process can't serve a mount, as a clause; undefined when it can. */
export function whyNotLazy(): string | undefined {
  if (process.platform !== "linux") return `FUSE is Linux's, this is ${process.platform}`;
  if (process.getuid?.() !== 0) return "mounting needs root";
  for (const program of PROGRAMS) {
    if (findProgram(program) === undefined) return `there is no ${program} program`;
  }
  try {
    closeSync(openDevice());
    return undefined;
  } catch (error) {
    return `${FUSE_DEVICE} can't be opened (${systemErrorCode(error) ?? errorMessage(error)})`;
  }
}

function openDevice(): number {
  return openSync(FUSE_DEVICE, constants.O_RDWR | O_CLOEXEC);
}

/**
 * Mounts at `directory`. The kernel's first request then waits on the descriptor, and until it is answered so does everyone who
 * looks at the mount: that must not be this thread.
 *
 * @returns the device's descriptor
 * @throws {ZenithError} `io` with mount's own words
 */
export async function mountFuse(directory: string): Promise<number> {
  const fd = openDevice();
  try {
    const options = [
      `fd=${CHILD_DEVICE_FD}`,
      "rootmode=40000",
      "user_id=0",
      "group_id=0",
      // Postgres is another user.
      "allow_other",
      "default_permissions",
      `max_read=${IO_MAX_BYTES}`,
      "nosuid",
      "nodev",
      "noatime",
    ];
    const args = ["-i", "-t", FILE_SYSTEM_TYPE, "-o", options.join(","), SOURCE, directory];
    const child = spawn("mount", args, { stdio: ["ignore", "ignore", "pipe", fd] });
    let words = "";
    child.stderr!.on("data", (chunk: Uint8Array) => words += chunk.toString());
    const code = await new Promise<number | null>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", resolve);
    });
    if (code !== 0) throw new ZenithError("io", `could not mount ${directory}: ${words.trim()}`);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Takes away every mount at `directory`, in use or not, served or dead. @returns how many there were */
export function unmount(directory: string): number {
  let count = 0;
  for (; findMount(directory) !== undefined; count++) {
    const run = spawnSync("umount", ["-l", "--", directory], { encoding: "utf8" });
    if (run.status !== 0) {
      throw new ZenithError("io", `could not unmount ${directory}: ${run.stderr?.trim() ?? run.error}`);
    }
  }
  return count;
}

interface Mount {
  /** `major:minor`. */
  readonly device: string;
}

/** The mount at exactly that directory. Reads the kernel's table: looking at a dead mount would fail or block. */
function findMount(directory: string): Mount | undefined {
  const mounted = kernelPath(directory);
  // proc_pid_mountinfo(5): mount id, parent id, major:minor, root, mount point, …; blanks are octal escapes.
  for (const line of readFileSync("/proc/self/mountinfo", "utf8").split("\n")) {
    const [, , device, , mountPoint] = line.split(" ");
    if (mountPoint !== undefined && device !== undefined && unescapeOctal(mountPoint) === mounted) {
      return { device };
    }
  }
  return undefined;
}

/** The mount point as the kernel calls it. The last component is not looked at: there may be a dead mount. */
function kernelPath(directory: string): string {
  try {
    return join(realpathSync(dirname(directory)), basename(directory));
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return directory;
    throw ioError("look at", dirname(directory), error);
  }
}

function unescapeOctal(text: string): string {
  if (!text.includes("\\")) return text;
  const bytes: number[] = [];
  const raw = Buffer.from(text);
  for (let i = 0; i < raw.length; i++) {
    if (raw[i] === 0x5c && i + 3 < raw.length) {
      bytes.push(Number.parseInt(raw.toString("latin1", i + 1, i + 4), 8));
      i += 3;
    } else {
      bytes.push(raw[i]!);
    }
  }
  return Buffer.from(bytes).toString();
}

/**
 * What the page cache may do with this mount. By default FUSE file systems get a fraction of the dirty pages that others get, which
 * throttles writers, and little reading ahead.
 */
const CACHE_SETTINGS = [
  ["read_ahead_kb", String(IO_MAX_BYTES / 1024)],
  ["strict_limit", "0"],
  ["max_ratio", "100"],
] as const;

/** @returns what could not be set; the mount works all the same, slower */
export function tunePageCache(directory: string): string[] {
  const mount = findMount(directory);
  const failed: string[] = [];
  for (const [name, value] of CACHE_SETTINGS) {
    try {
      writeFileSync(`/sys/class/bdi/${mount?.device}/${name}`, value);
    } catch (error) {
      failed.push(`${name}: ${errorMessage(error)}`);
    }
  }
  return failed;
}
