/**
 * What to start a `Worker` by.
 *
 * @param path of its module, from the project's root. Its name ends in `_worker.ts`: by that the build finds it
 */
export function workerUrl(path: string): URL {
  // In an executable made by `bun build --compile` the program lies at the root of a file system of its own, with the
  // workers below it, compiled.
  if (import.meta.url.includes("/$bunfs/")) return new URL(path.replace(/\.ts$/, ".js"), import.meta.url);
  return new URL(`../../${path}`, import.meta.url);
}
