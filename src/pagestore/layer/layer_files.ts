/** Where the bytes of layers come from: files on this disk, or copies of them elsewhere. */
import type { Disk } from "../../common/disk.ts";
import { systemErrorCode, type ZenithError } from "../../common/errors.ts";

/** The bytes of one layer, read at any position. */
export interface LayerFile {
  /** Like `DiskFile.readSync`. @throws {AbsentBytes} when they have to be fetched first */
  readSync(into: Uint8Array, off: number, len: number, position: number): number;
  closeSync(): void;
  /**
   * Called with bytes that fail their checksum. @throws {AbsentBytes} when another copy of them may
   * be right; otherwise the caller throws `problem`
   */
  distrust?(position: number, len: number, problem: ZenithError): void;
}

/** The layers of a timeline, by the paths that they have on this disk. */
export interface LayerFiles {
  /** @throws what `Disk.openSync` throws */
  open(path: string): LayerFile;
  /** Whether the layer's file has to be on this disk: there is no other copy to read. */
  isOnlyHere(path: string): boolean;
  /** Removes a layer that nothing names any more. @throws what `Disk.unlinkSync` throws */
  remove(path: string): void;
}

/** Layers that are all on this disk. */
export function localLayers(disk: Disk): LayerFiles {
  return {
    open: (path) => disk.openSync(path, "read"),
    isOnlyHere: () => true,
    remove: (path) => disk.unlinkSync(path),
  };
}

/** Whether a file is missing. */
export function isMissing(error: unknown): boolean {
  return systemErrorCode(error) === "ENOENT";
}
