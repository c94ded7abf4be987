/** A file system in a file of its own, for references that need a certain one. */
import { mkdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { command } from "./command.ts";

const IMAGE_BYTES = 20e9;

/** What makes each kind of file system. */
const MAKE = {
  xfs: ["mkfs.xfs", "-q", "-m", "reflink=1"],
  btrfs: ["mkfs.btrfs", "-q"],
} as const;

/** Needs root, the kind's mkfs and loop devices. */
export class LoopVolume implements Disposable {
  readonly mountPoint: string;
  readonly #image: string;

  /** @throws {Error} when it can't be made here */
  constructor(kind: keyof typeof MAKE, directory: string) {
    this.#image = join(directory, `${kind}.img`);
    this.mountPoint = join(directory, kind);
    writeFileSync(this.#image, "");
    truncateSync(this.#image, IMAGE_BYTES);
    mkdirSync(this.mountPoint);
    const [program, ...args] = MAKE[kind];
    command(program, ...args, this.#image);
    command("mount", "-o", "loop", this.#image, this.mountPoint);
  }

  [Symbol.dispose](): void {
    command("umount", this.mountPoint);
    rmSync(this.#image);
  }
}
