/** Finds this program's worker modules: in the source tree, or inside the compiled executable. */

/**
 * Inside an executable made by `bun build --compile` every module has a URL in a file system of its
 * own.
 */
export function isCompiled(): boolean {
  return import.meta.url.includes("/$bunfs/");
}

/**
 * The URL to start a `Worker` by.
 *
 * @param path of its module, from the project's root. Its name ends in `_worker.ts`; the build
 *   finds it by that
 */
export function workerUrl(path: string): URL {
  // The executable lies at the root of its file system, with the workers below it, compiled.
  if (isCompiled()) return new URL(path.replace(/\.ts$/, ".js"), import.meta.url);
  return new URL(`../../${path}`, import.meta.url);
}
