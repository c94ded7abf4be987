/** Finds this program's worker modules: in the source tree, or inside the compiled executable. */

/**
 * Whether this is an executable made by `bun build --compile`. There, every module has a URL in a
 * file system of its own.
 */
export function isCompiled(): boolean {
  return import.meta.url.includes("/$bunfs/");
}

/**
 * Returns the URL that starts a `Worker`.
 *
 * @param path the worker's module, from the project's root; its name ends in `_worker.ts`, by which
 *   the build finds it
 */
export function workerUrl(path: string): URL {
  // The executable is at the root of its file system. The compiled workers are below it.
  if (isCompiled()) return new URL(path.replace(/\.ts$/, ".js"), import.meta.url);
  return new URL(`../../${path}`, import.meta.url);
}
