/** The console's files, as `scripts/build.ts` makes them: inside the executable, or in `dist`. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { array, parse, string } from "valibot";

/** Where `bun build --compile --asset` puts them. */
const INSIDE = "/$bunfs/root/console";
const BUILT = join(import.meta.dirname ?? "", "..", "..", "..", "dist", "console");

/** The list of the files, as a JSON array of names. */
export const LIST_FILE = "files.json";
export const INDEX_FILE = "index.html";

export interface Asset {
  readonly type: string;
  readonly bytes: Uint8Array;
  readonly gzipped: Uint8Array;
}

const TYPES: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
  svg: "image/svg+xml",
};

/**
 * Reads them all.
 *
 * @returns them by name; undefined when the console was not built
 * @throws {Error} when one of them is not of a type that is known
 */
export function readAssets(
  root = existsSync(INSIDE) ? INSIDE : BUILT,
): ReadonlyMap<string, Asset> | undefined {
  const list = join(root, LIST_FILE);
  if (!existsSync(list)) return undefined;
  const names = parse(array(string()), JSON.parse(readFileSync(list, "utf8")));
  return new Map(names.map((name) => {
    const type = TYPES[name.slice(name.lastIndexOf(".") + 1)];
    if (type === undefined) throw new Error(`the console has a file ${name}, of no known type`);
    const bytes = readFileSync(join(root, name));
    return [name, { type, bytes, gzipped: gzipSync(bytes) }];
  }));
}
