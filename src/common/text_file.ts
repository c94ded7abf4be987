/** Text files outside the data directories, which people may read and edit. */
import { closeSync, fsyncSync, openSync, renameSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { nodeDisk } from "./disk.ts";
import { ioError } from "./errors.ts";

/**
 * Replaces a file atomically and durably: readers see the old one or the new one. Several processes
 * may do it at once.
 *
 * @throws {ZenithError} `disk_full`, `io`
 */
export function replaceTextFile(path: string, text: string, mode: number): void {
  const temporary = `${path}.tmp.${process.pid}`;
  try {
    const fd = openSync(temporary, "w", mode);
    try {
      writeSync(fd, text);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
    nodeDisk.fsyncDirSync(dirname(path));
  } catch (error) {
    throw ioError("write", path, error);
  }
}
