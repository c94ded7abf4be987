/** Mounts and unmounts the file system: as root by system calls, otherwise by fusermount3. */
import { Buffer } from "node:buffer";
import { readFileSync, realpathSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { errorMessage, ioError, systemErrorCode } from "../../../common/errors.ts";
import type { ForeignDirectory } from "../../../common/foreign_directory.ts";
import { findProgram } from "../../../process/find_program.ts";
import { device, FUSE_DEVICE } from "./device.ts";
import { fuserMount, fuserUnmount, whyNoFusermount } from "./fusermount.ts";
import { bindMount, detachBind, detachMount, hasLibc, mountFileSystem } from "./libc.ts";
import { IO_MAX_BYTES } from "./protocol.ts";

/** The name of the mounted file system in /proc/mounts: `zenith`, of type `fuse.zenith`. */
const SOURCE = "zenith";

/** With default_permissions, the files' owners and modes decide who has access. */
const OPTIONS = ["default_permissions", `max_read=${IO_MAX_BYTES}`];

/** `CAP_SYS_ADMIN` (linux/capability.h). */
const CAP_SYS_ADMIN = 21n;

function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/** Returns why this process can't serve a mount, as a clause. Undefined when it can. */
export function whyNotLazy(): string | undefined {
  if (process.platform !== "linux") return `FUSE is Linux's, this is ${process.platform}`;
  if (!hasLibc()) return "the system's C library is not glibc";
  // Postgres must not outlive the mount's server (see `tiedToParent`).
  if (findProgram("setpriv") === undefined) return "there is no setpriv program";
  const why = isRoot() ? whyNotAsRoot() : whyNoFusermount();
  if (why !== undefined) return why;
  try {
    device.close(device.open());
    return undefined;
  } catch (error) {
    return `${FUSE_DEVICE} can't be opened (${systemErrorCode(error) ?? errorMessage(error)})`;
  }
}

/** Returns why root can't mount: a container may forbid it. */
function whyNotAsRoot(): string | undefined {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0";
  const mayMount = (BigInt(`0x${effective}`) >> CAP_SYS_ADMIN) & 1n;
  return mayMount ? undefined : "root may not mount here (no CAP_SYS_ADMIN)";
}

/**
 * Mounts at `directory`. The kernel's first request then waits on the descriptor. Until it is
 * answered, everybody who looks at the mount waits too, so this thread must not.
 *
 * @returns the device's descriptor
 * @throws {ZenithError} `io`, with the message of the kernel or of fusermount
 */
export async function mountFuse(directory: string): Promise<number> {
  if (!isRoot()) {
    return await fuserMount(directory, [`fsname=${SOURCE}`, `subtype=${SOURCE}`, "noatime", ...OPTIONS]);
  }
  const fd = device.open();
  // allow_other, because Postgres runs as another user.
  const options = [`fd=${fd}`, "rootmode=40000", "user_id=0", "group_id=0", "allow_other", ...OPTIONS];
  try {
    mountFileSystem(SOURCE, directory, `fuse.${SOURCE}`, options.join(","));
    return fd;
  } catch (error) {
    device.close(fd);
    throw ioError("mount", directory, error);
  }
}

/**
 * Removes every mount at `directory`, in use or not, whether or not it is served. @returns how many
 * there were
 */
export function unmount(directory: string): number {
  let count = 0;
  for (; findMount(directory) !== undefined; count++) {
    try {
      if (isRoot()) detachMount(directory);
      else fuserUnmount(directory);
    } catch (error) {
      // The compute that served the mount may have removed it meanwhile.
      if (findMount(directory) === undefined) break;
      throw ioError("unmount", directory, error);
    }
  }
  return count;
}

/** Whether this process may bind-mount directories. fusermount3 doesn't do that for other users. */
export function canBind(): boolean {
  return isRoot();
}

/**
 * Shows `source` at `directory` too.
 *
 * @param source a directory of a mount that is served, but not by this thread
 * @param directory this very directory is covered, whatever its owner does to its path
 * @throws {ZenithError} `io`
 */
export function bind(source: string, directory: ForeignDirectory): void {
  try {
    bindMount(source, directory.descriptorPath);
  } catch (error) {
    throw ioError("mount", directory.path, error);
  }
}

/** Removes every mount at `directory` that was made by {@link bind}. */
export function unbind(directory: string): void {
  while (canBind() && findMount(directory) !== undefined) {
    try {
      detachBind(directory);
    } catch (error) {
      if (findMount(directory) === undefined) break;
      throw ioError("unmount", directory, error);
    }
  }
}

export interface Mount {
  /** `major:minor`. */
  readonly device: string;
}

/**
 * Finds the mount at exactly this directory. Reads the kernel's table, because looking at a dead
 * mount would fail or block.
 */
export function findMount(directory: string): Mount | undefined {
  const mounted = kernelPath(directory);
  // proc_pid_mountinfo(5): mount id, parent id, major:minor, root, mount point, … Blanks are octal
  // escapes.
  for (const line of readFileSync("/proc/self/mountinfo", "utf8").split("\n")) {
    const [, , device, , mountPoint] = line.split(" ");
    if (mountPoint !== undefined && device !== undefined && unescapeOctal(mountPoint) === mounted) {
      return { device };
    }
  }
  return undefined;
}

/**
 * Returns the mount point's path as the kernel writes it. Doesn't look at the last component, which
 * may be a dead mount.
 */
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
      bytes.push(raw[i]);
    }
  }
  return Buffer.from(bytes).toString();
}

/**
 * Settings of the page cache for this mount. By default, a FUSE file system gets a fraction of the
 * dirty pages that others get, which throttles writers, and little read-ahead.
 */
const CACHE_SETTINGS = [
  ["read_ahead_kb", String(IO_MAX_BYTES / 1024)],
  ["strict_limit", "0"],
  ["max_ratio", "100"],
] as const;

/** @returns the settings that could not be made; without them the mount works, but more slowly */
export function tunePageCache(mounted: Mount): string[] {
  return setCache(mounted, CACHE_SETTINGS);
}

/** While the disk is nearly full, the kernel must not accept more than there is room for. */
const LIMITED = [["max_bytes", String(32 << 20)], ["strict_limit", "1"]] as const;
const UNLIMITED = [["max_ratio", "100"], ["strict_limit", "0"]] as const;

/** Does nothing without the right to do so. The limit is then strict anyway. */
export function limitDirtyPages(mounted: Mount, limited: boolean): void {
  setCache(mounted, limited ? LIMITED : UNLIMITED);
}

function setCache(
  { device }: Mount,
  settings: readonly (readonly [name: string, value: string])[],
): string[] {
  const failed: string[] = [];
  for (const [name, value] of settings) {
    try {
      writeFileSync(`/sys/class/bdi/${device}/${name}`, value);
    } catch (error) {
      failed.push(`${name}: ${errorMessage(error)}`);
    }
  }
  return failed;
}
