/** The disk that an environment is on. */
import { statfsSync } from "node:fs";
import type { Environment } from "../environment.ts";

/** What its users may still write, and how large it is. */
export function diskOf({ paths }: Environment): { freeBytes: number; sizeBytes: number } {
  const { bavail, blocks, bsize } = statfsSync(paths.root);
  return { freeBytes: bavail * bsize, sizeBytes: blocks * bsize };
}
