/** Finds a program on `$PATH`. */
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";

/** The path of a program that `$PATH` leads to. */
export function findProgram(name: string): string | undefined {
  return (process.env["PATH"] ?? "").split(delimiter).map((dir) => join(dir, name)).find((path) =>
    existsSync(path)
  );
}
