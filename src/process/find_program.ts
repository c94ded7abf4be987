/** Finds a program on `$PATH`. */
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";

/** Returns the path of the program that `$PATH` finds under this name. */
export function findProgram(name: string): string | undefined {
  return (process.env["PATH"] ?? "").split(delimiter).map((dir) => join(dir, name)).find((path) =>
    existsSync(path)
  );
}
