/** Removes lazy storage that nobody serves, without the code that serves it: commands do it too. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { ComputePaths } from "../../common/paths.ts";
import { unbind, unmount } from "./fuse/mount.ts";

/** The parts of a data directory that are in the mount: all that contain relation files. */
export const TABLESPACES = "pg_tblspc";
export const MOUNTED_DIRECTORIES = ["base", "global", TABLESPACES];

/** Removes what an earlier compute has left: a mount without a server, and an overlay. */
export function removeLazyStorage(paths: ComputePaths): void {
  for (const name of MOUNTED_DIRECTORIES) unbind(join(paths.pgdata, name));
  unmount(paths.mount);
  rmSync(paths.overlay, { recursive: true, force: true });
}
