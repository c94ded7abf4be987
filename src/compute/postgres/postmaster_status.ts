/** Looks again and again at what a postmaster that starts says of itself in `postmaster.pid`. */
import { closeSync, readSync } from "node:fs";
import { ForeignDirectory } from "../../common/foreign_directory.ts";

/** The file has about eight short lines. */
const MAX_BYTES = 8192;

/**
 * Line 8 of `postmaster.pid`, and what it contains once Postgres is ready:
 * LOCK_FILE_LINE_PM_STATUS, PM_STATUS_READY (pidfile.h).
 */
const STATUS_LINE = 8;
const STATUS_READY = "ready";

/**
 * Postgres makes the file and then changes it in place (AddToDataDirLockFile in miscinit.c). So it
 * is opened once, and a look costs one system call instead of nine.
 */
export class PostmasterStatus implements Disposable {
  readonly #directory: ForeignDirectory;
  readonly #bytes = new Uint8Array(MAX_BYTES);
  readonly #decoder = new TextDecoder();
  #fd: number | undefined;

  /** @throws {ZenithError} `io` */
  constructor(pgdata: string) {
    this.#directory = ForeignDirectory.open(pgdata);
  }

  /** Whether the postmaster `pid` reports that it accepts clients. */
  isReady(pid: number): boolean {
    try {
      this.#fd ??= this.#directory.openForReading("postmaster.pid");
      const length = readSync(this.#fd, this.#bytes, 0, MAX_BYTES, 0);
      const lines = this.#decoder.decode(this.#bytes.subarray(0, length)).split("\n");
      if (lines[0] === String(pid)) return lines[STATUS_LINE - 1]?.trimEnd() === STATUS_READY;
    } catch {
      // It is not there yet.
    }
    // An earlier postmaster's file is replaced.
    this.#close();
    return false;
  }

  [Symbol.dispose](): void {
    this.#close();
    this.#directory[Symbol.dispose]();
  }

  #close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}
