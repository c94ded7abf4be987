/** The object store of an environment: one line of its page server's configuration file. */
import { existsSync, readFileSync } from "node:fs";
import { nodeDisk, replaceFileSync } from "../common/disk.ts";
import { withIoErrors } from "../common/errors.ts";
import { PageServerConfigSchema } from "../common/page_server_config.ts";
import type { PageServerPaths } from "../common/paths.ts";
import { parseTomlText } from "../common/toml.ts";

const LINE = /^object_store[ \t]*=.*$/m;

/**
 * Sets the object store's URL, and leaves the rest of the file as it is. The page server reads it
 * when it starts.
 *
 * @throws {ZenithError} `invalid_argument` when the file is wrong, `io`, `disk_full`
 */
export function setObjectStore(paths: PageServerPaths, url: string): void {
  const path = paths.config;
  withIoErrors("write", path, () => {
    const before = existsSync(path) ? readFileSync(path, "utf8") : "";
    const line = `object_store = ${JSON.stringify(url)}`;
    const text = LINE.test(before) ? before.replace(LINE, () => line) : `${line}\n${before}`;
    parseTomlText(text, PageServerConfigSchema, path);
    replaceFileSync(nodeDisk, paths.workdir, path, new TextEncoder().encode(text));
  });
}
