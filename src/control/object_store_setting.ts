/** The object store of an environment: one line of its page server's configuration file. */
import { existsSync, readFileSync } from "node:fs";
import { nodeDisk, replaceFileSync } from "../common/disk.ts";
import { withIoErrors } from "../common/errors.ts";
import { PageServerConfigSchema } from "../common/page_server_config.ts";
import type { PageServerPaths } from "../common/paths.ts";
import { parseTomlText } from "../common/toml.ts";

/** What the page server's configuration says of its object store. */
export interface ObjectStoreSetting {
  readonly url: string;
  /** The file with the key that encrypts what is uploaded. Undefined when nothing does. */
  readonly keyFile: string | undefined;
}

/** Undefined when no store is set. @throws {ZenithError} `invalid_argument`, `io` */
export function objectStoreSetting(paths: PageServerPaths): ObjectStoreSetting | undefined {
  const { object_store: url, object_store_key_file: keyFile } = parseTomlText(
    readConfig(paths),
    PageServerConfigSchema,
    paths.config,
  );
  return url === undefined ? undefined : { url, keyFile };
}

function readConfig({ config }: PageServerPaths): string {
  return withIoErrors("read", config, () => existsSync(config) ? readFileSync(config, "utf8") : "");
}

/**
 * Sets the object store's URL and its key file, and leaves the rest of the file as it is. The page
 * server reads it when it starts.
 *
 * @param setting a key file that is undefined leaves that line as it is
 * @throws {ZenithError} `invalid_argument` when the file is wrong, `io`, `disk_full`
 */
export function setObjectStore(paths: PageServerPaths, { url, keyFile }: ObjectStoreSetting): void {
  let text = withLine(readConfig(paths), "object_store", url);
  if (keyFile !== undefined) text = withLine(text, "object_store_key_file", keyFile);
  parseTomlText(text, PageServerConfigSchema, paths.config);
  withIoErrors("write", paths.config, () => {
    replaceFileSync(nodeDisk, paths.workdir, paths.config, new TextEncoder().encode(text));
  });
}

/** Replaces the line of a key, or puts it first: what follows may be in a table. */
function withLine(text: string, key: string, value: string): string {
  const line = `${key} = ${JSON.stringify(value)}`;
  const before = new RegExp(`^${key}[ \\t]*=.*$`, "m");
  return before.test(text) ? text.replace(before, () => line) : `${line}\n${text}`;
}
