/** Reads files that a tenant may have replaced. */
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { ZenithError } from "../../common/errors.ts";
import { CONTROL_FILE_PATH, type ControlFile, parseControlFile } from "../../postgres/control_file.ts";

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;

/** The limit for a file. Catalogs have a few pages. */
const MAX_BYTES = 256 << 20;

/**
 * Reads a whole file of a data directory, which its tenant may have replaced. Follows no link and
 * waits for no pipe. Reads asynchronously, because a lazy compute's bytes may come through this
 * very process.
 *
 * @throws the error of opening it; {@link ZenithError} `io` when it is not a regular file, or too
 *   long
 */
export async function readTenantFile(path: string): Promise<Uint8Array> {
  const file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    const stat = await file.stat();
    if (!stat.isFile() || stat.size > MAX_BYTES) {
      throw new ZenithError("io", `${path} is no file of at most ${MAX_BYTES} bytes`);
    }
    return await file.readFile();
  } finally {
    await file.close();
  }
}

/** Reads the control file of a data directory. @throws as {@link readTenantFile}, `corrupt_data` */
export async function readControlFile(pgdata: string): Promise<ControlFile> {
  return parseControlFile(await readTenantFile(join(pgdata, CONTROL_FILE_PATH)));
}
