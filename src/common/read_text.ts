/** Reads files that are small texts. */
import { readFileSync } from "node:fs";
import { withIoErrors } from "./errors.ts";

/** Returns what a file has, in UTF-8. @throws {ZenithError} `io` */
export function readText(path: string): string {
  return withIoErrors("read", path, () => readFileSync(path, "utf8"));
}
