/** Where an exported cluster goes: a directory, or a tar. */
import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, rmSync, statSync, writeSync } from "node:fs";
import { once } from "node:events";
import type { Writable } from "node:stream";
import { dirname, join } from "node:path";
import { ioError, systemErrorCode, ZenithError } from "../common/errors.ts";
import { TAR_BLOCK_BYTES, TAR_END_BYTES, tarPadding, writeTarHeader } from "../protocol/tar.ts";

const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;

/** Takes the files of a cluster, one after the other. */
export interface ExportSink {
  directory(name: string): void;
  begin(name: string, size: number): void;
  content(bytes: Uint8Array): void;
  end(): void;
  /** Resolves when more may be passed. */
  ready(): Promise<void>;
  /** Completes it, durably where that is possible. */
  finish(): Promise<void>;
  /** Removes what is there. */
  abort(): void;
}

/** A new or empty directory. */
export class DirectorySink implements ExportSink {
  readonly #root: string;
  readonly #isNew: boolean;
  readonly #directories = new Set<string>([""]);
  #file: { readonly fd: number; readonly path: string } | null = null;

  /** @throws {ZenithError} `already_exists` when something is in it, `io` */
  constructor(root: string) {
    this.#root = root;
    this.#isNew = statSync(root, { throwIfNoEntry: false }) === undefined;
    try {
      if (this.#isNew) mkdirSync(root, { recursive: true, mode: DIRECTORY_MODE });
      else if (readdirSync(root).length > 0) {
        throw new ZenithError("already_exists", `${root} is not empty`, {
          hint: "name a directory that does not exist, or an empty one",
        });
      }
    } catch (error) {
      throw error instanceof ZenithError ? error : ioError("prepare", root, error);
    }
  }

  directory(name: string): void {
    if (this.#directories.has(name)) return;
    const parent = dirname(name);
    this.directory(parent === "." ? "" : parent);
    const path = join(this.#root, name);
    try {
      mkdirSync(path, { mode: DIRECTORY_MODE });
    } catch (error) {
      throw ioError("create", path, error);
    }
    this.#directories.add(name);
  }

  begin(name: string): void {
    const parent = dirname(name);
    this.directory(parent === "." ? "" : parent);
    const path = join(this.#root, name);
    try {
      this.#file = { fd: openSync(path, "wx", FILE_MODE), path };
    } catch (error) {
      throw ioError("create", path, error);
    }
  }

  content(bytes: Uint8Array): void {
    const { fd, path } = this.#file!;
    try {
      for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at, bytes.length - at);
    } catch (error) {
      throw ioError("write", path, error);
    }
  }

  end(): void {
    const { fd, path } = this.#file!;
    this.#file = null;
    syncAndClose(fd, path);
  }

  ready(): Promise<void> {
    return Promise.resolve();
  }

  finish(): Promise<void> {
    for (const name of this.#directories) {
      const path = join(this.#root, name);
      syncAndClose(openSync(path, "r"), path);
    }
    return Promise.resolve();
  }

  abort(): void {
    if (this.#file !== null) closeSync(this.#file.fd);
    this.#file = null;
    try {
      if (this.#isNew) rmSync(this.#root, { recursive: true, force: true });
      else for (const name of readdirSync(this.#root)) rmSync(join(this.#root, name), { recursive: true });
    } catch (error) {
      // The failure that led here is reported instead.
      if (systemErrorCode(error) === undefined) throw error;
    }
  }
}

function syncAndClose(fd: number, path: string): void {
  try {
    fsyncSync(fd);
  } catch (error) {
    throw ioError("sync", path, error);
  } finally {
    closeSync(fd);
  }
}

/** A tar, on standard output or elsewhere. */
export class TarSink implements ExportSink {
  readonly #out: Writable;
  /** Aborts when nobody takes the tar any more. */
  readonly #gone = new AbortController();
  readonly #mtime = Math.floor(Date.now() / 1000);
  #isFull = false;
  #size = 0;

  constructor(out: Writable) {
    this.#out = out;
    out.once("close", () => this.#gone.abort());
  }

  directory(name: string): void {
    this.#header(name, "directory", 0);
  }

  begin(name: string, size: number): void {
    this.#size = size;
    this.#header(name, "file", size);
  }

  content(bytes: Uint8Array): void {
    this.#write(Uint8Array.from(bytes));
  }

  end(): void {
    this.#write(new Uint8Array(tarPadding(this.#size)));
  }

  async ready(): Promise<void> {
    if (!this.#isFull) return;
    this.#isFull = false;
    await once(this.#out, "drain", { signal: this.#gone.signal });
  }

  async finish(): Promise<void> {
    this.#write(new Uint8Array(TAR_END_BYTES));
    await this.ready();
  }

  /** Without its end, the tar is torn, as whoever reads it notices. */
  abort(): void {}

  #header(name: string, type: "file" | "directory", size: number): void {
    const header = new Uint8Array(TAR_BLOCK_BYTES);
    writeTarHeader(header, 0, { name, type, size }, this.#mtime);
    this.#write(header);
  }

  #write(bytes: Uint8Array): void {
    if (bytes.length > 0 && !this.#out.write(bytes)) this.#isFull = true;
  }
}
