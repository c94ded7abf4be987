/** Looks at a lazy compute's mount from outside, as an administrator could. */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { ComputePaths } from "../../src/common/paths.ts";
import { removeLazyStorage } from "../../src/compute/lazy/remove_lazy_storage.ts";

const BYTES_PER_STAT_BLOCK = 512;

/** Disk space that the overlay takes. */
export function overlayBytes(paths: ComputePaths): number {
  let bytes = 0;
  for (const entry of readdirSync(paths.overlay, { withFileTypes: true })) {
    if (entry.isFile()) bytes += statSync(join(paths.overlay, entry.name)).blocks * BYTES_PER_STAT_BLOCK;
  }
  return bytes;
}

/**
 * Takes away the mounts that test runs have left which were killed.
 *
 * @param prefix of their directories, before the run's process id: runs that go on have mounts of their own
 */
export function removeMountsOfDeadRuns(prefix: string): void {
  for (const line of readFileSync("/proc/self/mounts", "utf8").split("\n")) {
    const [, path, type] = line.split(" ");
    if (type !== "fuse.zenith" || !path!.startsWith(prefix)) continue;
    const pid = Number.parseInt(path!.slice(prefix.length), 10);
    if (Number.isNaN(pid) || (pid !== process.pid && existsSync(`/proc/${pid}`))) continue;
    const [directory] = path!.split(/\/(?:mount|pgdata\/\w+)$/);
    removeLazyStorage(new ComputePaths(directory!));
  }
}

/** The options of what is mounted at the compute's mount point, alive or dead; undefined when nothing is. */
export function mountOptions(paths: ComputePaths): string | undefined {
  const mounts = readFileSync("/proc/self/mounts", "utf8").split("\n").map((line) => line.split(" "));
  return mounts.find((fields) => fields[1] === paths.mount)?.[3];
}

/** Whether something is mounted at the compute's mount point, alive or dead. */
export function isMounted(paths: ComputePaths): boolean {
  return mountOptions(paths) !== undefined;
}

/** Makes the kernel forget what it has of the files, so that the next read reaches the file system's server again. */
export function dropPageCache(paths: ComputePaths): void {
  for (const name of readdirSync(paths.mount, { recursive: true, encoding: "utf8" })) {
    const path = join(paths.mount, name);
    if (statSync(path, { throwIfNoEntry: false })?.isFile()) dropPageCacheOf(path);
  }
}

/** The same of one file. */
export function dropPageCacheOf(path: string): void {
  spawnSync("sync", ["--data", path]);
  const run = spawnSync("dd", [`if=${path}`, "iflag=nocache", "count=0"], { encoding: "utf8" });
  if (run.status !== 0) throw new Error(run.stderr);
}
