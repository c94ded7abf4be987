/** How much room a directory takes on disk. */
import { join } from "node:path";
import type { Disk } from "./disk.ts";

/** Returns the sizes of all files below `path`, in bytes; 0 when it does not exist. */
function treeBytes(disk: Disk, path: string): number {
  // Files come and go meanwhile.
  const stat = disk.statSync(path);
  if (stat === null) return 0;
  if (!stat.isDirectory) return stat.size;
  return disk.readdirSync(path).reduce((sum, name) => sum + treeBytes(disk, join(path, name)), 0);
}

/**
 * How long a size is remembered. A tenant with a thousand branches has thousands of files, which
 * must not all be examined at every request.
 */
const AGE_MS = 5_000;

/** The size of one directory, at most a few seconds old. */
export class MeasuredTree {
  readonly #disk: Disk;
  readonly #path: string;
  #measured: { readonly bytes: number; readonly atMs: number } | null = null;

  constructor(disk: Disk, path: string) {
    this.#disk = disk;
    this.#path = path;
  }

  get bytes(): number {
    const nowMs = performance.now();
    if (this.#measured === null || nowMs - this.#measured.atMs > AGE_MS) {
      this.#measured = { bytes: treeBytes(this.#disk, this.#path), atMs: nowMs };
    }
    return this.#measured.bytes;
  }
}
