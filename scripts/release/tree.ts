/** The files of a package, from which each kind of package is made. */
import { chmodSync, copyFileSync, mkdirSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

export interface PackageFile {
  /** Relative to the package's root. */
  readonly path: string;
  /** Its bytes, or the file that has them. */
  readonly content: string | Uint8Array | { readonly file: string };
  readonly executable?: true;
}

/** Makes `directory`, with these files alone. Nothing in it depends on the umask or the clock. */
export function writeTree(directory: string, files: readonly PackageFile[], time: Date): void {
  rmSync(directory, { recursive: true, force: true });
  for (const { path, content, executable } of files) {
    const target = join(directory, path);
    mkdirSync(dirname(target), { recursive: true });
    if (typeof content === "object" && "file" in content) copyFileSync(content.file, target);
    else writeFileSync(target, content);
    chmodSync(target, executable === true ? 0o755 : 0o644);
  }
  const paths = readdirSync(directory, { recursive: true, withFileTypes: true });
  for (const entry of paths) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isDirectory()) chmodSync(path, 0o755);
    utimesSync(path, time, time);
  }
  chmodSync(directory, 0o755);
  utimesSync(directory, time, time);
}
